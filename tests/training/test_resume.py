"""A run that was killed and started again ends in the bits of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from ranks import finish, said, start_ranks, tiny_config, wait_for
from runs import assert_same_run, final_weights, metric_lines
from tiny import TinyConfig


def survive(config: TinyConfig, ranks: int, kills: int, seed: int) -> None:
    """Kill a random rank at random moments, start again each time, then let it finish."""
    chance = random.Random(seed)
    for _ in range(kills):
        processes = start_ranks(config, ranks)
        time.sleep(chance.uniform(0.1, 1.2))
        os.kill(processes[chance.randrange(ranks)].pid, signal.SIGKILL)
        # As launchers do: a rank may wait at its start for one that will never come.
        wait_for(processes, timeout_s=3)
    finish(config, ranks)


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_at_random_moments_a_run_ends_in_the_same_bits(tmp_path: Path, ranks: int):
    half = f"trainer.batch_per_rank={8 // ranks}"
    undisturbed = tiny_config(tmp_path / "undisturbed", half)
    disturbed = tiny_config(tmp_path / "disturbed", half, "slow_s=0.01")
    finish(undisturbed, ranks)
    survive(disturbed, ranks, kills=3, seed=ranks)
    assert_same_run(disturbed, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3])
def test_killed_twenty_times_a_run_ends_in_the_same_bits(tmp_path: Path, ranks: int):
    batch = f"trainer.batch_per_rank={12 // ranks}"
    length = "trainer.images=1440"
    undisturbed = tiny_config(tmp_path / "undisturbed", batch, length)
    disturbed = tiny_config(tmp_path / "disturbed", batch, length, "slow_s=0.01")
    finish(undisturbed, ranks)
    survive(disturbed, ranks, kills=20, seed=10 + ranks)
    assert_same_run(disturbed, undisturbed)


def test_two_resumes_within_one_epoch_change_nothing(tmp_path: Path):
    whole, parts = tiny_config(tmp_path / "whole"), tmp_path / "parts"
    finish(whole)
    for steps in (3, 6, 60):
        finish(tiny_config(parts, f"trainer.images={steps * 8}", "trainer.log_every_steps=1"))
    config = tiny_config(parts)
    assert all(
        torch.equal(a, b)
        for a, b in zip(final_weights(config).values(), final_weights(whole).values(), strict=True)
    )
    assert [line["step"] for line in metric_lines(config)] == list(range(1, 61))


def test_a_stop_signal_to_one_rank_saves_all_at_the_same_step_and_asks_to_be_resumed(tmp_path):
    batch = "trainer.batch_per_rank=4"
    undisturbed = tiny_config(tmp_path / "undisturbed", batch)
    stopped = tiny_config(tmp_path / "stopped", batch, "slow_s=0.02", "trainer.save_every_steps=0")
    finish(undisturbed, 2)
    processes = start_ranks(stopped, 2)
    while not (stopped.root / "run" / "metrics.jsonl").exists():
        time.sleep(0.01)
    os.kill(processes[1].pid, signal.SIGUSR1)
    assert wait_for(processes) == [75, 75], said(stopped)
    (checkpoint,) = (stopped.root / "run" / "checkpoints").iterdir()
    assert 4 <= int(checkpoint.name.removeprefix("step-")) < 60
    assert json.loads((stopped.root / "run" / "run.json").read_text())["status"] == "stopped"
    finish(stopped, 2)
    assert_same_run(stopped, undisturbed)


def test_another_number_of_ranks_goes_on_with_the_same_samples(tmp_path: Path):
    one = tiny_config(tmp_path, "trainer.images=240", "trainer.batch_per_rank=8")
    finish(one)
    two = tiny_config(tmp_path, "trainer.batch_per_rank=4")
    finish(two, 2)
    assert "(1 ranks before, 2 now)" in said(two)
    whole = tiny_config(tmp_path / "whole")
    finish(whole)
    for name, weight in final_weights(two).items():
        # Dropout masks are drawn by rank, so only the size of the result can agree.
        assert weight.shape == final_weights(whole)[name].shape


def test_another_global_batch_is_refused(tmp_path: Path):
    finish(tiny_config(tmp_path, "trainer.images=240"))
    codes = wait_for(start_ranks(tiny_config(tmp_path), 2))
    assert codes == [2, 2]
    assert "global batch of 8, found 2 ranks x 8" in said(tiny_config(tmp_path))


def test_a_finished_run_says_so_and_returns_at_once(tmp_path: Path):
    config = tiny_config(tmp_path)
    finish(config)
    before = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns
    finish(config)
    assert "finished already" in said(config)
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns == before


def test_more_images_go_on_where_the_run_ended(tmp_path: Path):
    finish(tiny_config(tmp_path, "trainer.images=240"))
    longer = tiny_config(tmp_path)
    finish(longer)
    whole = tiny_config(tmp_path / "whole")
    finish(whole)
    weights, expected = final_weights(longer), final_weights(whole)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
