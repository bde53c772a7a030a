"""`norface doctor`: a line a check, and a way out where one fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from launchers.local import find_free_port
from norface.bench.loading import write_faces
from norface.cli.main import main
from norface.doctor.base import Complaint, look
from norface.doctor.machine import check_packages, read_versions
from norface.training.backends.base import BackendConfig


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("doctor") / "shards"
    write_faces(folder, pictures=4, side=32, rendered=1)
    return folder


def examine(capsys, *words: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code and check => (state, found)."""
    code = main(["doctor", "--json", "backend.device=cpu", *words])
    said = json.loads(capsys.readouterr().out)
    assert said["well"] == (code == 0)
    return code, {one["check"]: (one["state"], one["found"]) for one in said["findings"]}


def test_a_sound_machine_and_config_end_with_0(tmp_path, capsys, shards):
    (tmp_path / "nor.yaml").write_text(
        f"root: {tmp_path}\ndata: {{shards: [{shards}]}}\nnormalizer: {{}}\n"
        "critics: {landmarks: {source: synthetic}}\nlosses: {id: null}\ntracking: {mlflow: false}\n"
    )
    words = ["losses.perc=null", "losses.exp=null", "losses.eye=null"]
    code, found = examine(capsys, "-c", str(tmp_path / "nor.yaml"), *words)
    assert code == 0, found
    assert "torch 2." in found["packages"][1] and "GFLOP/s bf16" in found["device"][1]
    assert found["ranks"] == ("skipped", "one rank") and found["tracking"][0] == "skipped"
    assert "GiB free, writes" in found["disk"][1]
    assert "4 pictures of" in found["shards"][1]
    assert "is sound" in found["critics"][1]
    # It leaves nothing.
    assert [path.name for path in tmp_path.iterdir()] == ["nor.yaml"]


def test_what_fails_is_named_with_a_way_out_and_the_code_is_1(tmp_path, capsys, shards):
    broken = tmp_path / "shards"
    shutil.copytree(shards, broken)
    (tar,) = broken.glob("*.tar")
    tar.unlink()
    (tmp_path / "root").write_text("a file")
    uri = "http://127.0.0.1:9"
    code, found = examine(
        capsys, f"root={tmp_path / 'root' / 'runs'}", f"data.shards=[{broken}]",
        f"tracking.uri={uri}", "critics={identity: {source: synthetic, weights: gone.safetensors}}",
    )  # fmt: skip
    assert code == 1
    states = {name: state for name, (state, _) in found.items()}
    assert [n for n, s in states.items() if s == "failed"] == ["tracking", "shards", "critics"]
    assert tar.name in found["shards"][1] and "missing (1 of 1" in found["shards"][1]
    assert f"{uri} does not answer" in found["tracking"][1]
    assert "`norface track sync`" in found["tracking"][1]
    assert "gone.safetensors" in found["critics"][1] or "critics" in found["critics"][1]


def test_a_config_that_names_no_shards_is_told_so(tmp_path, capsys):
    config = tmp_path / "cla.yaml"
    config.write_text("cla: {data: {corpora: [bp4d]}}\ntracking: {mlflow: false}\n")
    main(["doctor", "-c", str(config), f"root={tmp_path}", "backend.device=cpu"])
    assert "shards     skipped the config names none; add" in capsys.readouterr().out


def test_a_password_of_the_server_is_not_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:secret@127.0.0.1:9")
    _, found = examine(capsys, f"root={tmp_path}")
    assert found["tracking"][0] == "failed" and "127.0.0.1:9" in found["tracking"][1]
    assert "secret" not in json.dumps(found)


class Experiments(BaseHTTPRequestHandler):
    """As much of a tracking server as answers a search."""

    def do_POST(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"experiments": []}')

    def log_message(self, *_):
        pass


def test_a_server_that_answers_is_well(tmp_path, capsys):
    server = HTTPServer(("127.0.0.1", 0), Experiments)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        uri = f"http://127.0.0.1:{server.server_port}"
        code, found = examine(capsys, f"root={tmp_path}", f"tracking.uri={uri}")
    finally:
        server.shutdown()
    assert code == 0 and f"{uri} answers in" in found["tracking"][1]


def test_a_gpu_that_is_not_there_is_a_finding_too(capsys):
    code = main(["doctor", "backend.device=cuda"])
    if code:
        assert "backend.device: found 'cuda'" in capsys.readouterr().out


def test_ranks_with_other_packages_are_named():
    mine = read_versions()
    config = BackendConfig()
    assert "torch" in check_packages([mine, mine], config)
    with pytest.raises(Complaint, match=r"mlflow is \S+ on rank 0 and 0.1 on rank 1"):
        check_packages([mine, {**mine, "mlflow": "0.1"}], config)
    without = {name: version for name, version in mine.items() if name != "timm"}
    with pytest.raises(Complaint, match="timm missing; pip install"):
        check_packages([without], config)


def test_a_check_that_breaks_is_a_finding_not_a_traceback():
    found = look("disk", lambda: str(1 / 0))
    assert (found.state, found.found) == ("failed", "ZeroDivisionError: division by zero")


@pytest.mark.slow
def test_two_ranks_measure_their_all_reduce_and_speak_once(tmp_path):
    command = [sys.executable, "-m", "launchers.local", "--ranks", "2", "--", "doctor"]
    words = [f"root={tmp_path}", "backend.device=cpu", "tracking.mlflow=false"]
    found = subprocess.run(
        [*command, *words], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert found.returncode == 0, found.stdout + found.stderr
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("ranks")]
    assert "gloo all-reduce of 16 MiB over 2 ranks on 1 machine(s)" in line and "GB/s" in line
    assert "clocks of ranks are within" in found.stdout


@pytest.mark.slow
def test_what_fails_on_another_machine_is_named_with_its_rank(tmp_path, shards):
    root, port = tmp_path / "runs", str(find_free_port())
    root.mkdir()
    # The machine of rank 1: another name, hardly any shared memory, a disk that cannot be written.
    other = (
        "hostname node2 && mount -t tmpfs -o size=1m tmpfs /dev/shm"
        f' && mount -t tmpfs -o ro tmpfs {root} && mount -t tmpfs tmpfs {shards} && exec "$@"'
    )
    apart = ["unshare", "--uts", "--mount", "sh", "-c", other, "sh"]
    if os.geteuid() != 0 or subprocess.run([*apart, "true"], capture_output=True).returncode != 0:
        pytest.skip("a machine within the machine needs root")
    command = [sys.executable, "-m", "norface", "doctor", f"root={root}", f"data.shards=[{shards}]"]
    command += ["backend.device=cpu", "tracking.mlflow=false"]
    processes = []
    for rank, words in enumerate((command, [*apart, *command])):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo",
            "PYTHONPATH": ".",
        }  # fmt: skip
        processes.append(
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        )
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], said
    failed = [line.split(maxsplit=2) for line in said[0].splitlines() if " failed " in line]
    assert [check for check, *_ in failed] == ["memory", "disk", "shards"]
    assert all(found.startswith("rank 1 (node2): ") for *_, found in failed)
    assert "/dev/shm has 1 MiB" in failed[0][2] and "read-only" in failed[1][2]
    assert f"{shards}" in failed[2][2] and not said[1]
    lines = said[0].splitlines()
    assert len([line for line in lines if line.startswith("disk ")]) == 2


def test_deepspeed_needs_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    mine = {**read_versions(), "deepspeed": "0.19"}
    assert "deepspeed 0.19" in check_packages([mine], BackendConfig(kind="deepspeed"))
