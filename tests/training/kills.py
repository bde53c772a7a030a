"""Kills ranks of a training at random moments and compares what it ends in with an undisturbed run.

Used by tests and by benchmarks/kill_training.py.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ranks import finish, said, start_ranks, wait_for
from runs import assert_same_run

from norface.tracking import read_metrics
from norface.training.checkpoint import CheckpointFolder, walk
from norface.training.stage import Stage, StageConfig

Tell = Callable[[str], None]


def survive(
    stage: type[Stage],
    config: StageConfig,
    undisturbed: StageConfig,
    *,
    ranks: int,
    kills: int,
    chance: random.Random,
    longest_s: float,
    tell: Tell = lambda _: None,
) -> int:
    """Kill a random rank after up to `longest_s` seconds, start again, and so on, `kills` times;
    then let it finish and compare. A run that finishes before is compared, removed and begun anew.

    Returns how many runs were compared. Raises AssertionError where a bit differs.
    """
    killed, compared = 0, 0
    while killed < kills:
        processes = start_ranks(config, ranks, stage=stage)
        waited_s = chance.uniform(0, longest_s)
        time.sleep(waited_s)
        victim = chance.randrange(ranks)
        moment = describe_moment(config)
        os.kill(processes[victim].pid or 0, signal.SIGKILL)
        # As launchers do: a rank may wait at its start for one that will never come.
        codes = wait_for(processes, timeout_s=30)
        if codes[victim] == -signal.SIGKILL:
            killed += 1
            tell(f"kill {killed}: rank {victim} {moment}")
        elif codes == [0] * ranks:
            compared += compare(config, undisturbed)
            # The undisturbed run may have been slowed by other work: none takes longer than this.
            longest_s = min(longest_s, 1.1 * waited_s)
            tell("finished before it was killed; the same bits; begins anew")
            shutil.rmtree(config.root)
        else:
            raise AssertionError(f"ended with {codes} before it was killed:\n{said(config)}")
    finish(config, ranks, stage=stage)
    return compared + compare(config, undisturbed)


def describe_moment(config: StageConfig) -> str:
    """What a run was about, as far as its folder shows."""
    folder = config.root / config.name
    if list((folder / "checkpoints").glob(".writing-*")):
        return "while a checkpoint was written"
    lines = read_metrics(folder)
    saved = CheckpointFolder(folder / "checkpoints", keep=1).paths()
    at = f"after line {lines[-1]['step']}" if lines else "before the first line"
    return f"{at}, newest checkpoint {saved[-1].name if saved else 'none'}"


def compare(config: StageConfig, undisturbed: StageConfig) -> int:
    """Assert equal exports, metrics and last checkpoints (weights, averages, optimizers)."""
    assert_same_run(config, undisturbed)
    states = [dict(walk(load_newest(one), "state")) for one in (config, undisturbed)]
    assert states[0].keys() == states[1].keys()
    for place, value in states[0].items():
        other = states[1][place]
        same = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
        assert same, place
    return 1


def load_newest(config: StageConfig) -> dict[str, Any]:
    """State of the newest checkpoint."""
    folder = CheckpointFolder(Path(config.root) / config.name / "checkpoints", keep=1)
    manifest = folder.newest_whole()
    assert manifest is not None
    return folder.load(manifest.step)
