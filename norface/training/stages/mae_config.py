"""Settings of `norface train mae`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from norface.config import Config, Misfit
from norface.data.augment import AugmentConfig
from norface.data.loader import DataConfig
from norface.data.provenance import describe_data, list_datasets
from norface.models.mae import MaskedAutoencoderConfig
from norface.training.schedule import Beta, ScheduleConfig
from norface.training.stage import StageConfig


class MaeOptimizerConfig(Config):
    """AdamW; rate, decay and moments are those of the paper on masked auto-encoders."""

    learning_rate: float = Field(1.5e-4, gt=0)
    "Peak rate."
    scale_by_batch: bool = True
    "`learning_rate` is that of a global batch of 256 and grows with the batch; false = as it is."
    weight_decay: float = Field(0.05, ge=0)
    "Decay of matrices and kernels; biases, norms and tokens have none."
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    "Decay of the running moments."
    schedule: ScheduleConfig = ScheduleConfig(kind="cosine", warmup_steps=1000)
    clip_norm: float | None = Field(None, gt=0)
    "Gradients are scaled down to this norm; null = never."


class MaeAugmentConfig(AugmentConfig):
    """Aligned faces are moved a little, where the paper crops photographs at random."""

    flip: float = Field(0.5, ge=0, le=1)
    shift: float = Field(0.05, ge=0, le=0.5)
    scale: float = Field(0.15, ge=0, lt=1)


class MaeConfig(StageConfig):
    """Settings of `norface train mae`."""

    name: str = "mae"
    data: DataConfig
    model: MaskedAutoencoderConfig = MaskedAutoencoderConfig()
    encoder_weights: Path | None = None
    """What the encoder starts from: a file of `norface train mae`, of facebookresearch/mae, of
    MAE-Face or of timm; null = fresh weights."""
    augment: MaeAugmentConfig = MaeAugmentConfig()
    optimizer: MaeOptimizerConfig = MaeOptimizerConfig()
    held_out: int = Field(0, ge=0)
    "Persons kept for measuring only; the seed draws them from all corpora by name."
    measured: int = Field(512, gt=0)
    "Pictures of held-out persons that `validation/loss` is the mean over, at most."
    sample_rows: int = Field(8, gt=0)
    "Rows of the grid original | masked | reconstructed."
    compile: bool = False
    "torch.compile the network: a minute or so at the start, faster steps after."

    @model_validator(mode="after")
    def _check_reader(self) -> MaeConfig:
        if self.data.reader != "index":
            raise Misfit(
                f"'.data.reader': found '{self.data.reader}'; stage mae reads by index (random"
                " access)"
            )
        return self

    def describe_run(self) -> dict[str, Any]:
        datasets = list_datasets(self.data.shards, cache=self.data.cache_folder)
        return describe_data(datasets, "mae")
