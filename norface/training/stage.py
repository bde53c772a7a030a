"""Stage: what the trainer drives. It owns networks, losses and data; the trainer counts."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from norface.config import Config
from norface.tracking import TrackingConfig
from norface.training.backends.base import BackendConfig

if TYPE_CHECKING:
    import torch


class ProfileConfig(Config):
    """Which steps torch's profiler watches. They are slower; what they compute stays the same."""

    start_step: int = Field(20, ge=0)
    "Steps before the window; the first few of a run are unlike the others."
    steps: int = Field(3, gt=0)
    "Length of the window."
    rank: int = Field(0, ge=0)
    "The rank that is watched."


class TrainerConfig(Config):
    """How long to train and how often to look. Steps are global batches."""

    images: int = Field(1_000_000, gt=0)
    "Pictures to train on in all, counted over all ranks; rounded up to whole global batches."
    batch_per_rank: int = Field(8, gt=0)
    "Pictures a rank and step. The global batch is this times the number of ranks."
    log_every_steps: int = Field(50, gt=0)
    "Metrics are reduced over ranks and written every so many steps."
    sample_every_steps: int = Field(1000, ge=0)
    "A sample grid is written every so many steps; 0 = only at the end."
    evaluate_every_steps: int = Field(0, ge=0)
    "The stage's own evaluation (validation subjects) every so many steps; 0 = only at the end."
    save_every_steps: int = Field(1000, ge=0)
    "A checkpoint every so many steps; 0 = only at the end and when the job is asked to stop."
    save_in_background: bool | None = None
    "Copy the state to host memory and let a thread write it; null = where the ranks have GPUs."
    keep_checkpoints: int = Field(2, gt=0)
    "Newest whole checkpoints that are kept."
    keep_every_steps: int = Field(0, ge=0)
    "The first checkpoint at or after each multiple of this is kept for ever; 0 = none."
    keep_best: str = ""
    """Keep the best checkpoint by a measure of metrics.jsonl (validation/f1; with a minus before it
    where lower is better: -validation/loss), and save when it gets better; empty = no."""
    dry_run: bool = True
    """Before a new run is opened, take one step on its first batch and undo it, so that a lack of
    memory, a wrong shape or a damaged picture is told before anything is written."""
    hang_seconds: float = Field(1800, ge=0)
    """A rank that all others wait for so long is named, and all ranks end; 0 = they wait. More than
    rank 0 needs alone for a sample grid, a checkpoint or the reading of an index."""
    profile: ProfileConfig | None = None
    "Steps to watch with torch's profiler; null = none."


class StageConfig(Config):
    """What every stage's configuration holds."""

    name: str = "run"
    "Name of the run: its folder is ROOT/NAME."
    root: Path = Path("runs")
    "Folder that holds the run folders."
    seed: int = Field(0, ge=0)
    "One seed gives the same run on the same number of ranks."
    trainer: TrainerConfig = TrainerConfig()
    backend: BackendConfig = BackendConfig()
    tracking: TrackingConfig = TrackingConfig()

    def describe_run(self) -> dict[str, Any]:
        """What MLflow is told before a run begins: {"task", "datasets", "tags"}, see `open_run`."""
        return {}


class Stage(abc.ABC):
    """One kind of training. Built as `SomeStage(config, backend)` on every rank."""

    name: str
    "Short name of the stage: mae, critic, nor, cla."
    steps_per_epoch: int
    "Global batches in one pass over the data."
    total_steps: int | None = None
    "Steps that the stage wants in all where it counts in epochs; None = as `trainer.images` says."
    notes: tuple[str, ...] = ()
    "What the constructor has to tell the user (costs, weights that matched); rank 0 prints it."
    evaluate_every_steps: int | None = None
    "The stage's own rhythm of `evaluate` (an epoch, say); None = as the trainer's config says."
    save_every_steps: int | None = None
    "The stage's own rhythm of checkpoints; None = as the trainer's config says."

    @classmethod
    def choose(cls, config: StageConfig) -> type[Stage]:
        """The class that trains this config: this one; a stage of several objectives asks it."""
        return cls

    @abc.abstractmethod
    def batches(self, start_step: int) -> Iterator[dict[str, Any]]:
        """This rank's batches from global step `start_step` on, without end."""

    @abc.abstractmethod
    def train_batch(self, batch: dict[str, Any], step: int) -> dict[str, torch.Tensor]:
        """One optimizer step, after `step` others. Returns detached scalars by name, means over
        this rank's samples; they are written as means over the steps of a log interval.

        Names: losses by the paper's (adv rec perc id lm exp eye; cla imp global local), `loss` for
        what was optimised, `grad_share/NAME` where measured, `lr`. A value that is not finite ends
        the run, unless its name holds a slash. The global generators were seeded for this step.
        """

    @abc.abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """{"models": {name: tensors by name}, "optimizers": {name: state}, "extra": plain data}.

        All ranks call it together; rank 0's is kept. Plain = tensors, numbers, text, and lists and
        dicts of them.
        """

    @abc.abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""

    def evaluate(self, step: int) -> dict[str, float]:
        """Validation metrics after `step` steps, or {}; the same on all ranks, which all call it.

        Called at the end too. Written as validation/NAME.
        """
        return {}

    def count_operations(self) -> float:
        """Floating-point operations that training on one picture needs (a + b c is two), forward
        and backward, without what is computed twice to save memory; 0 = not known. Main rank only.
        """
        return 0.0

    def figures(self) -> dict[str, np.ndarray]:
        """Pictures (H, W, 3, uint8) of the last `evaluate` by name, or {}. Main rank only."""
        return {}

    def sample_grid(self) -> np.ndarray | None:
        """A picture (H, W, 3, uint8) that shows how the stage is doing, or None.

        Main rank only, inside of Backend.at_rest; so is `export`.
        """
        return None

    def describe_batch(self, batch: dict[str, Any]) -> list[str]:
        """Keys of the batch's samples, named when a loss is not finite."""
        return list(batch.get("key", []))

    @abc.abstractmethod
    def export(self, folder: Path) -> None:
        """Write the final weights (safetensors) into the run folder. Main rank only."""


def count_steps(stage: Stage, config: StageConfig, world_size: int) -> int:
    """Global batches of the whole run."""
    global_batch = config.trainer.batch_per_rank * world_size
    return stage.total_steps or math.ceil(config.trainer.images / global_batch)
