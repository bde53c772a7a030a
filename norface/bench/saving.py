"""`norface bench saving`: what checkpoints cost a training, in percent of its time.

A small training saves after every few steps. Each save is held against the steps beside it, so
that what else the machine does hits both; the share at another interval follows from the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from norface.bench.training import BATCH, read_lines, start_training, wait_for, write_small_nor
from norface.config import Config
from norface.training.stage import TrainerConfig

GOAL = 0.03
"Share of the time that saving may take at the default interval."
SAVES = 8


class SavingCost(Config):
    """Medians over the saves of a training."""

    saves: int
    step_s: float
    "Of a step."
    save_s: float
    "Of writing a checkpoint, while the training waits."
    steps_a_save: float
    "Median of save_s / step_s of neighbours: how many steps a save is worth."
    checkpoint_mb: float
    interval: int
    "trainer.save_every_steps, the default."
    share: float
    "Of the time that goes into saving at that interval."

    def describe(self) -> str:
        """Lines for a person."""
        return "\n".join(
            [
                f"{self.saves} checkpoints of {self.checkpoint_mb:.1f} MB by a small F_nor",
                f"  a step {self.step_s:.3f} s, a save {self.save_s:.3f} s: as long as"
                f" {self.steps_a_save:.2f} steps",
                f"  one every {self.interval} steps (the default):"
                f" {100 * self.share:.3f} % of the time (goal {100 * GOAL:.0f} %)",
            ]
        )


def bench_saving(place: Path, *, steps: int) -> SavingCost:
    """Measure with `steps` steps between two saves. Raises TrainingError where it fails."""
    config = write_small_nor(
        place, steps=steps * (SAVES + 1), log_every_steps=steps, save_every_steps=steps
    )
    words = ("trainer.save_in_background=false",)
    wait_for([start_training(config, "saving", *words)], config, "saving")
    step_s, save_s = split_times(read_lines(config, "saving"), steps=steps, batch=BATCH)
    worth = float(np.median(save_s / step_s))
    interval = int(TrainerConfig().save_every_steps)
    newest = max((place / "saving" / "checkpoints").glob("step-*"))
    return SavingCost(
        saves=len(save_s),
        step_s=round(float(np.median(step_s)), 4),
        save_s=round(float(np.median(save_s)), 4),
        steps_a_save=round(worth, 3),
        checkpoint_mb=round(sum(path.stat().st_size for path in newest.iterdir()) / 1e6, 2),
        interval=interval,
        share=round(worth / (interval + worth), 6),
    )


def split_times(
    lines: Sequence[dict[str, Any]], *, steps: int, batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of a step and of the save before it, (N,) each, from metrics of `steps` steps a line.

    A line is written before the save of its step, which thus counts in the next one; the first
    line, which holds the start of the process, is left out.
    """
    later = lines[1:]
    train_s = np.array([steps * batch / line["images_per_second"] for line in later])
    shares = np.array([line["save_share"] for line in later])
    return train_s / steps, train_s * shares / (1 - shares)
