"""`norface bench scaling`: two ranks that train together against two trainings on their own.

One thread a process in both, the same pictures a process, in turns. The two on their own run at
the same time, so that both pairs share the machine's memory and caches alike; what is left between
them is what working together costs: averaging gradients, and waiting for the slower rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from norface.bench.training import (
    free_port,
    read_lines,
    start_training,
    wait_for,
    write_small_nor,
)
from norface.config import Config

GOAL = 0.9
"Pictures a second of two ranks over those of two independent trainings."
WINDOWS = 6


class WeakScaling(Config):
    """Pictures a second: medians over the rounds, ratio round by round."""

    rounds: int
    together: float
    "Two ranks of one training."
    apart: float
    "Two trainings of one rank, added."
    ratio: float
    "Median of together / apart of each round."

    def describe(self) -> str:
        """Lines for a person."""
        return "\n".join(
            [
                f"a small F_nor, one thread a process, {self.rounds} rounds",
                f"  two ranks together            {self.together:>8.1f} pictures/s",
                f"  two trainings at once, apart  {self.apart:>8.1f} pictures/s",
                f"  ratio {self.ratio:.3f} (goal {GOAL:.1f})",
            ]
        )


def bench_scaling(place: Path, *, rounds: int, steps: int) -> WeakScaling:
    """Measure with `steps` steps a window. Raises TrainingError where a training fails."""
    every = {"log_every_steps": steps}
    config = write_small_nor(place, steps=steps * (WINDOWS + 1), **every)
    together, apart = [], []
    for number in range(rounds):
        together.append(run_together(config, f"together-{number}"))
        apart.append(run_apart(config, [f"apart-{number}-{one}" for one in "ab"]))
    return WeakScaling(
        rounds=rounds,
        together=round(float(np.median(together)), 2),
        apart=round(float(np.median(apart)), 2),
        ratio=round(float(np.median(np.array(together) / apart)), 4),
    )


def run_together(config: Path, name: str) -> float:
    """Pictures a second of a training of two ranks, as many steps as one rank has."""
    port, images = free_port(), 2 * images_of(config)
    ranks = [
        start_training(config, name, f"trainer.images={images}", rank=rank, ranks=2, port=port)
        for rank in range(2)
    ]
    wait_for(ranks, config, name)
    return rate_of(read_lines(config, name))


def run_apart(config: Path, names: Sequence[str]) -> float:
    """Pictures a second of trainings of one rank at the same time, added."""
    processes = [start_training(config, name) for name in names]
    for process, name in zip(processes, names, strict=True):
        wait_for([process], config, name)
    return sum(rate_of(read_lines(config, name)) for name in names)


def images_of(config: Path) -> int:
    """`trainer.images` of a config's file."""
    from norface.config import read_yaml

    return int(read_yaml(config)["trainer"]["images"])


def rate_of(lines: Sequence[dict[str, Any]]) -> float:
    """Median of pictures a second over the windows but the first, which is unlike the others."""
    return float(np.median([line["images_per_second"] for line in lines[1:]]))
