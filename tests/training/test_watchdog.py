"""A rank that all others wait for is named, and running out of memory names the way out."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
import torch
from ranks import said, start_ranks, tiny_config, wait_for
from tiny import TinyStage

from norface.config import load_config
from norface.errors import TrainingError
from norface.training.memory_hint import explaining_memory, suggest
from norface.training.run import run_stage
from norface.training.stages.nor_config import NorConfig
from norface.training.watchdog import (
    Sighting,
    describe_late,
    find_groups_of_all,
    find_late,
    find_line,
)

os.environ.setdefault("DS_ACCELERATOR", "cpu")


class SleepsOnRankOne(TinyStage):
    """Rank 1 stays away from the gradients of step 6."""

    def train_batch(self, batch, step):
        if step == 5 and self.backend.rank == 1:
            time.sleep(300)
        return super().train_batch(batch, step)


@pytest.mark.parametrize(
    "zero_stage",
    [None, 1, *(pytest.param(stage, marks=pytest.mark.slow) for stage in (0, 2, 3))],
)
def test_a_rank_that_sleeps_is_named_with_its_step_and_line_and_all_end(tmp_path, zero_stage):
    words = ["trainer.batch_per_rank=4", "trainer.hang_seconds=4"]
    if zero_stage is not None:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install deepspeed")
        words += ["backend.kind=deepspeed", f"backend.zero_stage={zero_stage}"]
    config = tiny_config(tmp_path, *words)
    assert wait_for(start_ranks(config, 2, stage=SleepsOnRankOne), timeout_s=120) == [1, 1]
    lines = [line for line in said(config).splitlines() if "did not come" in line]
    (line,) = lines
    assert "rank 1 at step 6 in train_batch (test_watchdog.py:" in line and "within 4 s" in line
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_a_rank_that_is_stopped_is_named_though_it_says_nothing_more(tmp_path):
    # Rank 0, on which all others hang for much else.
    config = tiny_config(
        tmp_path, "trainer.batch_per_rank=4", "trainer.hang_seconds=4", "slow_s=0.05",
        "trainer.log_every_steps=1", "trainer.images=4000",
    )  # fmt: skip
    processes = start_ranks(config, 2)
    run = tmp_path / "run"
    while not ((run / "metrics.jsonl").exists() and (run / "ranks" / "0.json").exists()):
        time.sleep(0.01)
    os.kill(processes[0].pid, signal.SIGSTOP)
    try:
        assert wait_for(processes[1:], timeout_s=30) == [1]
    finally:
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].join()
    assert "rank 0 at step" in said(config) and "did not come to where all ranks meet" in said(
        config
    )


class TellsPatience(TinyStage):
    """Says how long torch would wait in each group after the watchdog has looked."""

    def train_batch(self, batch, step):
        found = super().train_batch(batch, step)
        if step == 3:
            time.sleep(1)
            groups = find_groups_of_all(2)
            waits = [group._get_backend(self.backend.device).options._timeout for group in groups]
            print(f"rank {self.backend.rank} waits {[int(wait.total_seconds()) for wait in waits]}")
        return found


def test_torch_gives_up_after_the_watchdog_in_zeros_own_group_too(tmp_path):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install deepspeed")
    words = ["backend.kind=deepspeed", "backend.zero_stage=1", "trainer.hang_seconds=7"]
    config = tiny_config(tmp_path, "trainer.batch_per_rank=4", "trainer.images=40", *words)
    assert wait_for(start_ranks(config, 2, stage=TellsPatience)) == [0, 0], said(config)
    for rank in (0, 1):
        assert f"rank {rank} waits [614, 614]" in said(config)


def test_patience_is_for_a_rank_not_for_a_long_run(tmp_path):
    # Longer than `hang_seconds` in all, with pauses of all ranks, and no rank is late.
    class Pauses(TinyStage):
        def train_batch(self, batch, step):
            time.sleep(4 if step == 3 else 0)
            return super().train_batch(batch, step)

    config = tiny_config(tmp_path, "trainer.batch_per_rank=4", "trainer.hang_seconds=3")
    assert wait_for(start_ranks(config, 2, stage=Pauses)) == [0, 0], said(config)
    assert not (tmp_path / "run" / "ranks").exists()


def sight(rank: int, collectives: int) -> Sighting:
    return Sighting(rank, 4, collectives, "read (loader.py:3)", "node2", 77, "start")


def test_late_is_who_entered_fewer_collectives_or_never_wrote():
    assert find_late([sight(0, 9), sight(1, 8), sight(2, 9)], 3) == [sight(1, 8)]
    assert find_late([sight(0, 9), sight(2, 9)], 3) == [1]
    # All wait for the network, or all compute: no rank is to blame.
    assert find_late([sight(0, 9), sight(1, 9)], 2) == []
    assert find_late([], 2) == []
    line = describe_late([sight(1, 8), 2], 60)
    assert line.startswith(
        "rank 1 at step 5 in read (loader.py:3) (pid 77 on node2), rank 2 (nothing is known of it)"
    )


def test_the_line_shown_is_ours_not_the_librarys():
    import threading

    def wait_in_the_library() -> None:
        gate.wait(30)

    gate = threading.Event()
    thread = threading.Thread(target=wait_in_the_library)
    thread.start()
    try:
        assert find_line(thread.ident).startswith("wait_in_the_library (test_watchdog.py:")
    finally:
        gate.set()
        thread.join()
    assert find_line(None) == "no line of Python"


class TakesAllMemory(TinyStage):
    """Asks for a million gigabytes."""

    def train_batch(self, batch, step):
        torch.empty(2**50, dtype=torch.uint8)
        return super().train_batch(batch, step)


def test_out_of_memory_names_the_settings_to_change(tmp_path):
    with pytest.raises(TrainingError) as caught:
        run_stage(TakesAllMemory, tiny_config(tmp_path))
    said = str(caught.value)
    assert "rank 0 is out of memory" in said and "allocate" in said and "\n" not in said
    assert "backend.precision=bf16" in said and "trainer.batch_per_rank=4 on twice" in said


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ..."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
    ],
)
def test_every_way_of_saying_so_is_understood(tmp_path, error):
    with (
        pytest.raises(TrainingError, match="rank 3 is out of memory"),
        explaining_memory(tiny_config(tmp_path), 3),
    ):
        raise error


def test_another_error_stays_as_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"), explaining_memory(tiny_config(tmp_path), 0):
        raise RuntimeError("shapes differ")


def test_what_is_already_set_is_not_suggested():
    words = ["data.shards=[x]", "gradient_checkpointing=true", "backend.precision=bf16"]
    config = load_config(NorConfig, None, words)
    assert suggest(config).startswith("set trainer.batch_per_rank=4 on")
    assert "set gradient_checkpointing=true, or" in suggest(load_config(NorConfig, None, words[:1]))
