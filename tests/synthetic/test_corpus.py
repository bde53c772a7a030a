"""The embedded corpus: pools, draws, shards and true normalized faces."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from norface.cli.main import main
from norface.data.labels import ACTION_UNITS, DETECTION_UNITS, EMOTIONS
from norface.data.normalized import TARGET_NAME, read_set
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, CorpusError
from norface.images import read_photo
from norface.synthetic.corpus import (
    POOLS,
    draw_frame,
    draw_parameters,
    find_subject,
    make_record,
    parameters_of,
    render,
    write_corpus,
    write_truth,
)
from norface.synthetic.sampling import check_pools, identity_seed, subject_name
from norface.synthetic.version import CARD_NAME, RENDERER_VERSION, check_drawn, renderer_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three subjects with four frames of 32 pixels."""
    out = tmp_path_factory.mktemp("synth") / "folds"
    return write_corpus(out, pool="folds", subjects=3, frames=4, side=32)


def test_no_two_pools_share_a_person():
    for first, second in itertools.combinations(POOLS.values(), 2):
        assert not set(first) & set(second)
    check_pools(POOLS)


def test_overlapping_pools_are_refused():
    with pytest.raises(CorpusError, match="pools 'a' and 'b' share identity seeds from 5"):
        check_pools({"b": range(5, 9), "a": range(0, 6)})


@pytest.mark.parametrize("number", [-1, 100_000])
def test_a_subject_outside_its_pool_is_refused(number):
    with pytest.raises(CorpusError, match=f"subject {number} is outside pool 'critics'"):
        identity_seed("critics", number)


def test_an_unknown_pool_is_refused_with_the_known_ones():
    with pytest.raises(
        CorpusError, match="unknown pool 'test'; there are: critics, normalizer, folds"
    ):
        draw_parameters("test", 0, 0)


def test_a_subjects_name_leads_back_to_its_pool():
    assert subject_name(identity_seed("normalizer", 7)) == "S100007"
    assert find_subject("S100007") == ("normalizer", 7)
    with pytest.raises(CorpusError, match="'F001' is not of the embedded corpus"):
        find_subject("F001")


def test_draws_are_keyed_by_subject_frame_and_seed():
    drawn = draw_parameters("folds", 2, 5, seed=1)
    assert drawn == draw_parameters("folds", 2, 5, seed=1)
    for other in [("folds", 2, 6, 1), ("folds", 3, 5, 1), ("folds", 2, 5, 2), ("critics", 2, 5, 1)]:
        assert draw_parameters(*other) != drawn


def test_every_detected_unit_is_present_in_12_to_45_percent_of_frames():
    frames = [draw_frame("folds", s, f) for s in range(50) for f in range(40)]
    for unit in DETECTION_UNITS["synthetic"]:
        share = np.mean([frame.parameters.intensity.get(unit, 0) >= 2 for frame in frames])
        assert 0.12 <= share <= 0.45, (unit, share)
    table = np.array([[f.parameters.intensity.get(u, 0) for u in ACTION_UNITS] for f in frames])
    assert table.min() >= 0 and table.max() <= 5
    assert np.abs(np.corrcoef(table.T) - np.eye(len(ACTION_UNITS))).max() < 0.5
    named = {frame.emotion for frame in frames}
    assert named == {None, *EMOTIONS}


def test_poses_lights_and_misalignments_stay_in_their_ranges():
    drawn = [draw_parameters("critics", s, 0) for s in range(300)]
    yaw, pitch, roll = np.abs([p.pose for p in drawn]).max(0)
    assert yaw <= 35 and pitch <= 20 and roll <= 10
    assert 12 < np.std([p.pose[0] for p in drawn]) < 18
    assert max(abs(p.camera.shift_x) for p in drawn) <= 0.02
    assert all(0.96 <= p.camera.scale <= 1.04 for p in drawn)


def test_shards_hold_exact_labels_landmarks_and_pose(folder):
    index = ShardIndex.open(folder)
    assert len(index) == 12 and index.side == 32
    assert index.persons == [("synthetic", f"S20000{i}") for i in range(3)]
    record = index.read_record(index.row_of("synthetic_S200001_seed0_2"))
    frame = draw_frame("folds", 1, 2)
    assert parameters_of(record) == frame.parameters
    assert set(record.intensity) == set(record.presence) == set(ACTION_UNITS)
    for unit, value in record.intensity.items():
        assert value == frame.parameters.intensity.get(unit, 0.0)
        assert record.presence[unit] == (value >= 2)
    face = render(frame.parameters, 32)
    assert np.allclose(record.landmarks, face.landmarks, atol=1e-5)
    assert np.allclose(record.pose, face.pose, atol=1e-3)
    assert np.abs(index.read_pixels(index.row_of(record.key)).astype(int) - face.pixels).mean() < 3
    assert read_photo(folder / "contact_sheet.png").shape[1] > 4 * 160


def test_the_same_command_gives_the_same_bytes_and_workers_change_nothing(folder, tmp_path):
    again = write_corpus(tmp_path / "x", pool="folds", subjects=3, frames=4, side=32, workers=2)
    for name in ("shard-000000.tar", "corpus.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_folder_of_other_content_is_refused_and_left_alone(folder, tmp_path):
    with pytest.raises(CorpusError, match="holds a synthetic corpus of other settings"):
        write_corpus(folder, pool="folds", subjects=3, frames=5, side=32)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CorpusError, match="is not empty; choose another folder"):
        write_corpus(tmp_path, pool="folds", subjects=1, frames=1, side=32)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_finished_corpus_is_written_again_without_harm(folder):
    before = (folder / "shard-000000.tar").read_bytes()
    write_corpus(folder, pool="folds", subjects=3, frames=4, side=32)
    assert (folder / "shard-000000.tar").read_bytes() == before
    assert len(ShardIndex.open(folder)) == 12


def test_true_normalized_faces_have_the_sources_keys_and_the_targets_look(folder, tmp_path):
    target = "synthetic_S200002_seed0_1"
    out = write_truth(folder, target, tmp_path)
    assert out == tmp_path / target / "truth"
    source, truth = ShardIndex.open(folder), ShardIndex.open(out)
    same = ["key", "subject", "shard", "emotion"]
    assert truth.table[same].astype(str).equals(source.table[same].astype(str))
    units = tuple(ACTION_UNITS)
    assert np.array_equal(truth.labels("intensity", units), source.labels("intensity", units))
    card = read_set(out)
    assert (card.target, card.generator, card.source) == (target, "truth", source.digest)
    row = source.row_of(target)
    assert np.array_equal(truth.read_pixels(row), source.read_pixels(row))
    poses = np.array([truth.read_record(i).pose for i in range(len(truth))])
    assert np.allclose(poses[:, :2], source.read_record(row).pose[:2])
    assert read_photo(out / TARGET_NAME).shape == (32, 32, 3)


def test_faces_of_another_corpus_have_no_truth():
    record = make_record("folds", 0, 0, side=32)
    with pytest.raises(CorpusError, match="not a face of the embedded corpus"):
        parameters_of(dataclasses.replace(record, corpus="bp4d"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pool", "x"], "unknown pool 'x'"),
        (["--subjects", "0"], "subjects is 0; at least 1 is needed"),
        (["--side", "4"], "side is 4; at least 16 is needed"),
        (["--workers", "0"], "workers is 0; at least 1 is needed"),
        (["--truth", "x"], "belong together"),
        (["--sheet"], "--sheet writes a PNG file"),
    ],
)
def test_a_users_mistake_is_one_line_and_writes_no_shards(words, message, tmp_path, capsys):
    assert main(["synth", str(tmp_path / "out"), "--subjects", "1", "--frames", "1", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.tar"))


def test_a_contact_sheet_can_be_drawn_alone(tmp_path):
    path = tmp_path / "faces.png"
    assert main(["synth", str(path), "--sheet", "--subjects", "1", "--frames", "2"]) == 0
    assert read_photo(path).shape == (164, 326, 3)


def test_a_clip_begins_at_rest_and_keeps_place_light_camera_and_nearly_the_pose():
    frames = [draw_parameters("normalizer", 3, number, 0, 6) for number in range(12)]
    for clip in (frames[:6], frames[6:]):
        for name in ("background_seed", "light", "camera"):
            assert len({getattr(frame, name) for frame in clip}) == 1
        assert np.std([frame.pose for frame in clip], axis=0).max() < 3
        assert clip[0].intensity == {} and sum(bool(frame.intensity) for frame in clip) >= 3
    assert frames[0].background_seed != frames[6].background_seed
    # The action is that of the photograph with the same number.
    assert frames[8].intensity == draw_parameters("normalizer", 3, 8).intensity


def test_faces_of_clips_can_be_rendered_again_from_their_records(tmp_path):
    folder = write_corpus(tmp_path, pool="normalizer", subjects=1, frames=6, clip_frames=3, side=32)
    index = ShardIndex.open(folder)
    assert list(index.table["clip"].astype(str)) == ["seed0clip0of3"] * 3 + ["seed0clip1of3"] * 3
    for row in (1, 4):
        again = render(parameters_of(index.read_record(row)), 32).pixels
        assert np.abs(again.astype(int) - index.read_pixels(row)).mean() < 4
        assert parameters_of(index.read_record(row)) == draw_parameters("normalizer", 0, row, 0, 3)


def test_shards_say_which_renderer_drew_them(folder, tmp_path):
    assert json.loads((folder / CARD_NAME).read_text())["renderer"] == RENDERER_VERSION
    assert renderer_of([folder, tmp_path]) == RENDERER_VERSION and renderer_of([tmp_path]) is None
    (tmp_path / CARD_NAME).write_text('{"pool": "folds"}')
    assert renderer_of([tmp_path]) == 1
    wanted = f"several renderers: .* by version 1, .* by version {RENDERER_VERSION}"
    with pytest.raises(CorpusError, match=wanted):
        renderer_of([folder, tmp_path])
    check_drawn([folder])
    wanted = f"was drawn by renderer 1, .* know renderer {RENDERER_VERSION}; write"
    with pytest.raises(ConfigError, match=wanted):
        check_drawn([tmp_path])
    (tmp_path / CARD_NAME).write_text("not json")
    with pytest.raises(CorpusError, match="corpus.json: not a card of synthetic shards"):
        renderer_of([tmp_path])
