"""Settings of `norface train critic`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from norface.config import Config
from norface.data.loader import DataConfig
from norface.data.provenance import describe_data, list_datasets
from norface.models.expression_embedding import EmbeddingConfig
from norface.models.face_networks import FaceNetworkConfig
from norface.training.schedule import ScheduleConfig
from norface.training.stage import StageConfig


class CriticLossConfig(Config):
    """Weights of the reader's three tasks."""

    landmarks: float = Field(1000.0, ge=0)
    "Mean squared error, coordinates in units of the image side."
    intensity: float = Field(1.0, ge=0)
    "Mean squared error, each action unit in units of its own spread: a rare one counts alike."
    pose: float = Field(1.0, ge=0)
    "Mean squared error, angles in units of 30 degrees."


class CriticAugmentConfig(Config):
    """Random changes that a judge must not care about."""

    shift: float = Field(0.04, ge=0)
    "Largest shift, in units of the side."
    scale: float = Field(0.06, ge=0, lt=1)
    "Largest relative change of size."
    light: float = Field(0.25, ge=0)
    "Largest change of brightness and contrast, of the range -1..1."
    noise: float = Field(0.06, ge=0)
    "Largest standard deviation of added noise."
    attack: float = Field(0.0, ge=0)
    """Largest Euclidean length, over all pixels of a picture in -1..1, of a step along the loss's
    gradient in the picture. A judge trained so is harder to please by invisible texture: its own
    gradient draws what a person would see. Costs two thirds of a step more."""


class TripletConfig(Config):
    """Which two of three faces are most alike, for objective triplet."""

    table: Path | None = None
    """Parquet with key1, key2, key3, type, votes, split, as `norface prepare fec` writes it with
    its option `triplets`; null = triplets are mined from the shards' action-unit intensities."""
    agreement: float = Field(2 / 3, gt=0.5, le=1)
    "Triplets of a table on which a smaller share of the votes agrees are left out."
    margin: float = Field(0.2, gt=0)
    "Least difference of squared distances; embeddings have unit length."
    one_class_margin: float = Field(0.1, gt=0)
    "The same for triplets of a table that are of ONE_CLASS_TRIPLET: their faces differ less."
    candidates: int = Field(16, ge=2)
    """Faces of other persons that a mined triplet is chosen from: the most alike of them, and one
    that is less alike than that."""


class CriticConfig(StageConfig):
    """Settings of `norface train critic`."""

    name: str = "critic"
    data: DataConfig
    cache: bool = True
    "Decode all pictures once and keep them: 12 kB a picture of 64x64, of all ranks each."
    objective: Literal["labels", "triplet"] = "labels"
    """labels: `network` learns landmarks, units and pose, or persons. triplet: `embedding` learns
    which expressions are alike, whoever wears them."""
    network: FaceNetworkConfig = FaceNetworkConfig()
    "For objective labels."
    embedding: EmbeddingConfig = EmbeddingConfig()
    "For objective triplet."
    triplets: TripletConfig = TripletConfig()
    "For objective triplet."
    start: Path | None = None
    "File of `norface train critic` to go on from, of an older renderer too; null = fresh weights."
    losses: CriticLossConfig = CriticLossConfig()
    augment: CriticAugmentConfig = CriticAugmentConfig()
    learning_rate: float = Field(2e-3, gt=0)
    "Peak rate of AdamW."
    schedule: ScheduleConfig = ScheduleConfig(kind="cosine", warmup_steps=200)
    weight_decay: float = Field(0.01, ge=0)
    held_out: int = Field(100, ge=2)
    """Persons kept for measuring only, drawn from all corpora, the same for every seed. Of a table
    of triplets its part `test` is kept or, where it has none, so many triplets."""

    def describe_run(self) -> dict[str, Any]:
        datasets = list_datasets(self.data.shards, cache=self.data.cache_folder)
        return describe_data(datasets, "critic")
