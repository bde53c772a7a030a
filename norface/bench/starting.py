"""`norface bench start`: how long `norface train nor` with a small config takes to its first step.

Beside it, in turns, a process that imports torch and ends: what no training can go below.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from norface.bench.training import read_lines, start_training, wait_for, write_small_nor
from norface.config import Config

GOAL_S = 30.0
"Seconds to the first step."


class StartTimes(Config):
    """Medians over the rounds, in seconds; ratios round by round."""

    rounds: int
    seconds: float
    "From the start of the process to the first line of metrics.jsonl, that of step 1."
    import_s: float
    "A Python that imports torch, from its start to its end."
    ratio: float
    "Median of seconds / import_s of each round."

    def describe(self) -> str:
        """Lines for a person."""
        return "\n".join(
            [
                f"start of `norface train nor` (small, one rank, one thread), {self.rounds} rounds",
                f"  to the end of its first step    {self.seconds:>6.1f} s (goal {GOAL_S:.0f} s)",
                f"  a Python that imports torch     {self.import_s:>6.1f} s",
                f"  ratio {self.ratio:.1f}",
            ]
        )


def bench_start(place: Path, *, rounds: int) -> StartTimes:
    """Measure below the folder `place`. Raises TrainingError where a training fails."""
    config = write_small_nor(place, steps=1)
    starts, imports = [], []
    for number in range(rounds):
        name = f"start-{number}"
        began = time.time()
        wait_for([start_training(config, name)], config, name)
        starts.append(read_lines(config, name)[0]["time"] - began)
        began = time.time()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        imports.append(time.time() - began)
    return StartTimes(
        rounds=rounds,
        seconds=round(float(np.median(starts)), 2),
        import_s=round(float(np.median(imports)), 2),
        ratio=round(float(np.median(np.array(starts) / imports)), 2),
    )
