"""A line that is only half there costs itself: what follows is written, read and fed to MLflow."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from norface.cli.main import main
from norface.metric_lines import append_line, parse_line, read_lines
from norface.mlflow_client import import_mlflow, make_client
from norface.system_metrics import SystemMonitor
from norface.tracking import TrackingConfig, open_run, read_metrics

sys.path.append(str(Path(__file__).parent / "training"))
from disks import small_disk

HALF = b'{"step": 2, "time": 9.0, "lo'


def line(step: int, **values: float) -> dict[str, float]:
    return {"step": step, "time": 9.0, **values}


def test_a_line_after_half_a_line_begins_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, line(1, loss=0.5))
    with open(path, "ab") as file:
        file.write(HALF)
    append_line(path, line(3, loss=0.25))
    assert path.read_bytes().split(b"\n")[1] == HALF
    assert read_lines(path)[0] == [line(1, loss=0.5), line(3, loss=0.25)]


def test_a_last_line_without_its_end_is_left_for_later(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, line(1))
    size = path.stat().st_size
    with open(path, "ab") as file:
        file.write(HALF)
    assert read_lines(path) == ([line(1)], size)
    with open(path, "ab") as file:
        file.write(b'ss": 0.5}\n')
    assert read_lines(path, size) == ([line(2, loss=0.5)], path.stat().st_size)


def test_damage_is_said_once(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(HALF + b"\n" + json.dumps(line(3)).encode() + b"\n")
    for _ in range(2):
        assert read_lines(path)[0] == [line(3)]
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"{path}: 1 damaged line(s) left out")


@pytest.mark.parametrize(
    "text",
    [
        HALF,
        HALF + b'{"step": 3, "time": 9.0}',
        b"\0" * 40,
        b'{"step": 3, "time": 9.0, "loss": "\xff"}',
        b'{"step": 3, "time": 9.0, "loss": "low"}',
        b'{"step": 3}',
        b"3",
    ],
)
def test_what_is_no_object_of_numbers_with_step_and_time_is_damaged(text):
    assert parse_line(text) is None


def test_a_machine_is_watched_on_after_its_disk_was_full(tmp_path):
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        path, filler = disk / "system.jsonl", disk / "filler"
        # A page of a tmpfs in which half a line has room.
        path.write_text(json.dumps(line(0)).ljust(3999) + "\n")
        monitor = SystemMonitor(path, 0.02)
        with open(filler, "wb", buffering=0) as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(bytes(4096))
        wait_until(lambda: path.stat().st_size >= 4096)
        filler.unlink()
        full = path.stat().st_size
        wait_until(lambda: path.stat().st_size > full + 2000)
        monitor.stop()
        lines = read_lines(path)[0]
        assert len(lines) == path.read_bytes().count(b"\n") - (full == 4096)
        assert [one["step"] for one in lines] == list(range(len(lines)))


def wait_until(so) -> None:
    deadline = time.monotonic() + 60
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_mlflow_gets_all_that_follows_a_damaged_line(tmp_path):
    import_mlflow()
    folder = tmp_path / "run"
    run = open_run(folder, kind="test", tracking=TrackingConfig(system_every_s=0))
    for name in ("metrics.jsonl", "system.jsonl"):
        append_line(folder / name, line(1, **{f"{name[0]}/value": 0.5}))
        with open(folder / name, "ab") as file:
            file.write(HALF)
        append_line(folder / name, line(3, **{f"{name[0]}/value": 0.25}))
    run.log_image("faces", np.zeros((8, 8, 3), np.uint8), step=3)
    run.log_artifact(folder / "run.json")
    run.finish("finished")
    for _ in range(2):
        assert main(["track", "sync", str(folder)]) == 0
    client = make_client(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = json.loads((folder / "mlflow.json").read_text())["run_id"]
    for name in ("m/value", "s/value"):
        history = client.get_metric_history(run_id, name)
        assert [(one.step, one.value) for one in history] == [(1, 0.5), (3, 0.25)]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert [item.path for item in client.list_artifacts(run_id, "artifacts")] == [
        "artifacts/run.json"
    ]
    assert client.list_artifacts(run_id, "images")


def test_a_run_logs_on_a_line_of_its_own_after_a_start_that_was_killed(tmp_path):
    off = TrackingConfig(mlflow=False)
    for step in (1, 2):
        run = open_run(tmp_path / "a", kind="test", tracking=off)
        run.log({"loss": step / 2}, step=step)
        with open(tmp_path / "a" / "metrics.jsonl", "ab") as file:
            file.write(HALF)
    assert [one["loss"] for one in read_metrics(tmp_path / "a")] == [0.5, 1.0]
