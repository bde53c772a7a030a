"""The real stages, killed at drawn moments, end in the bits of a run that was left alone.

benchmarks/kill_training.py does the same twenty times.
"""

from __future__ import annotations

import random
import time

import pytest
from kills import survive
from ranks import finish
from tiny_stages import load_tiny, write_material

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.mark.parametrize("kind", ["mae", "nor", "cla"])
def test_killed_three_times_a_stage_ends_in_the_same_bits(material, tmp_path, kind):
    # Saving in the background is killed too: its snapshots must be those of their steps.
    changes = ["trainer.batch_per_rank=4", "trainer.save_in_background=true"]
    stage, whole = load_tiny(kind, material, tmp_path / "whole", *changes)
    started = time.monotonic()
    finish(whole, 2, stage=stage)
    length = time.monotonic() - started
    _, killed = load_tiny(kind, material, tmp_path / "killed", *changes)
    survive(stage, killed, whole, ranks=2, kills=3, chance=random.Random(kind), longest_s=length)
