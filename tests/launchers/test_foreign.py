"""`accelerate launch` and `deepspeed` start real ranks: their number, signals and exit codes."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from launchers import accelerate, deepspeed
from launchers.foreign import choose_code
from launchers.rank import write_note
from norface.data.records import FaceRecord
from norface.data.shards import ShardWriter
from norface.images import encode_jpeg

PROJECT = Path(__file__).parents[2]
NEEDS_DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None,
    reason="DeepSpeed is not installed: pip install deepspeed",
)
SMALL = "{side: 16, patch: 4, width: 16, depth: 1, heads: 2}"


@pytest.mark.parametrize(
    ("launcher", "ranks", "code"),
    [
        (0, [0, 0], 0),
        (1, [75, 75], 75),
        (75, [75, 75], 75),
        (1, [2, 2], 2),
        (1, [1, 2], 2),
        (1, [75, 1], 1),
        (1, [], 1),  # no rank came as far as noting anything
        (1, [0, 0], 1),  # the launcher itself failed
        (-9, [], 137),
    ],
)
def test_the_exit_code_is_the_ranks_own_where_they_left_one(launcher, ranks, code):
    assert choose_code(launcher, ranks) == code


def test_a_note_is_whole_or_not_there(tmp_path):
    write_note(tmp_path / "0.code", 75)
    assert [path.name for path in tmp_path.iterdir()] == ["0.code"]
    assert (tmp_path / "0.code").read_text() == "75"


def test_several_machines_are_told_their_number_and_where_rank_0_listens():
    config = PROJECT / "configs" / "accelerate" / "multi-node.yaml"
    command = accelerate.build_command(
        16, ["train", "nor"], config=config, node_rank=1, main="node1:29501"
    )
    assert command[3:] == [
        "--num_processes=16",
        f"--config_file={config}",
        "--machine_rank=1",
        "--main_process_ip=node1",
        "--main_process_port=29501",
        "-m",
        "launchers.rank",
        "train",
        "nor",
    ]


def test_no_config_leaves_the_precision_to_accelerate():
    # Its own mixed precision would wrap forward passes; backend.precision is the one place.
    for path in (PROJECT / "configs" / "accelerate").glob("*.yaml"):
        assert yaml.safe_load(path.read_text())["mixed_precision"] == "no", path


def test_a_number_of_ranks_that_machines_cannot_share_is_refused(capsys):
    config = str(PROJECT / "configs" / "accelerate" / "multi-node.yaml")
    with pytest.raises(SystemExit) as caught:
        accelerate.main(["--ranks", "3", "--config", config, "--", "train"])
    assert caught.value.code == 2
    assert "must be a multiple of 2 machines" in capsys.readouterr().err


@pytest.mark.slow
def test_a_wrong_verb_is_exit_code_2_under_accelerate(capfd):
    assert accelerate.main(["--ranks", "2", "--", "trian"]) == 2
    # The rank that ends first says so; torchrun may kill the others before they do.
    assert "unknown verb 'trian'" in capfd.readouterr().err


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """What `norface train mae` needs for some steps on a few faces."""
    folder, rng = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    with ShardWriter(folder / "shards", side=16, samples_per_shard=16) as writer:
        for number in range(16):
            image = encode_jpeg(rng.integers(0, 256, (16, 16, 3), np.uint8))
            writer.write(
                FaceRecord(
                    corpus="synthetic", subject=f"S{number // 4}", clip="c", frame=number % 4,
                    image=image,
                )
            )  # fmt: skip
    return [
        "train", "mae", f"root={folder}", f"data.shards=[{folder / 'shards'}]", "data.workers=0",
        f"model.encoder={SMALL}", "model.decoder={width: 8, depth: 1, heads: 2}",
        "trainer={images: 32, batch_per_rank: 4, log_every_steps: 1, sample_every_steps: 0}",
        "backend.device=cpu", "tracking.mlflow=false",
    ]  # fmt: skip


def start(*words: str, **more: str) -> subprocess.Popen:
    paths = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **more}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *words], env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )


def run(*words: str, **more: str) -> tuple[int, str]:
    process = start(*words, **more)
    try:
        text, _ = process.communicate(timeout=400)
    finally:
        process.terminate()  # handed on to the ranks, where it still runs
    return process.returncode, text


def steps_of(options: list[str], name: str) -> list[int]:
    path = Path(options[2].removeprefix("root=")) / name / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


LAUNCHERS = [
    pytest.param("accelerate", [], id="accelerate"),
    pytest.param("deepspeed", ["backend.kind=deepspeed"], marks=NEEDS_DEEPSPEED, id="deepspeed"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "backend"), LAUNCHERS)
def test_two_ranks_train(options, launcher, backend):
    module = ["-m", f"launchers.{launcher}", "--ranks", "2", "--"]
    # Ranks that found another number would refuse: the next test.
    code, text = run(*module, *options, *backend, f"name={launcher}", "backend.world_size=2")
    assert code == 0, text
    assert steps_of(options, launcher) == [1, 2, 3, 4]  # 32 pictures, 2 ranks x 4 a step


@pytest.mark.slow
def test_another_number_of_ranks_is_refused_and_2_comes_back(options):
    module = ["-m", "launchers.accelerate", "--ranks", "2", "--"]
    code, text = run(*module, *options, "name=refused", "backend.world_size=3")
    assert (code, "backend.world_size asks for 3 ranks, found 2" in text) == (2, True), text


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "backend"), LAUNCHERS)
def test_a_signal_is_handed_on_and_75_comes_back(options, launcher, backend):
    name, module = f"stopped-{launcher}", ["-m", f"launchers.{launcher}", "--ranks", "2", "--"]
    process = start(*module, *options, *backend, f"name={name}", "trainer.images=1000000")
    metrics = Path(options[2].removeprefix("root=")) / name / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    text, _ = process.communicate(timeout=100)
    assert process.returncode == 75, text
    assert len(list((metrics.parent / "checkpoints").glob("step-*"))) == 1


@pytest.mark.slow
def test_accelerate_launch_alone_starts_the_ranks_of_its_config(options):
    config = str(PROJECT / "configs" / "accelerate" / "cpu.yaml")
    launch = ["-m", "accelerate.commands.launch", "--config_file", config, "-m", "norface"]
    code, text = run(*launch, *options, "name=alone", "backend.world_size=2")
    assert code == 0, text
    assert steps_of(options, "alone") == [1, 2, 3, 4]
    # With --cpu it would start one process and say nothing; the rank notices and refuses.
    code, text = run(
        *launch[:2], "--cpu", "--num_processes=2", "-m", "norface", *options, "name=one"
    )
    assert code == 1 and "MASTER_ADDR, MASTER_PORT set but not RANK, WORLD_SIZE" in text, text


@NEEDS_DEEPSPEED
def test_deepspeeds_launcher_is_told_the_ranks_and_no_host_file():
    command = deepspeed.build_command(2, ["train", "nor"])
    assert "--num_gpus=2" in command and "--hostfile=/dev/null" in command
    assert command[-3:] == ["launchers.rank", "train", "nor"]
