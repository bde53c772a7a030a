"""Settings of `norface paper`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from norface.config import Config
from norface.tracking import TrackingConfig

STAND_IN = "synthetic"
"The corpus that stands in, under its own name, where none is given."


class ExperimentPlace(Config):
    """Where the data of an experiment is."""

    shards: list[Path] = Field(min_length=1)
    "Folders of shards with the original faces."
    sets: dict[str, list[Path | list[Path]]] = {}
    """Name => normalized sets, K of them: `norface` = of the paper's F_nor, `without_eye` = of one
    that was trained without L_eye. {fold} stands for the fold's name."""
    features: Path | None = None
    "Expression features of every face (Table 9)."
    config: Path | None = None
    "Config of its cross-validation; null = configs/cla/EXPERIMENT.yaml."
    cla: dict[str, Any] = {}
    "Differences from that config's `cla`."


class StandInConfig(Config):
    """Synthetic faces that `norface paper` renders where no corpus is given."""

    subjects: int = Field(18, ge=9)
    "Persons of the three folds."
    frames: int = Field(12, ge=4)
    "Pictures of each."
    side: int = Field(64, ge=16)
    "Pixels of a picture's side."
    epochs: int = Field(16, gt=0)
    "Of the small classifier."
    workers: int = Field(1, ge=1)
    "Processes that render."


class PaperConfig(Config):
    """Settings of `norface paper`."""

    name: str = "paper"
    "Runs are in ROOT/NAME/EXPERIMENT; tables share them."
    root: Path = Path("runs")
    "Folder that holds the run folders."
    out: Path = Path("paper")
    "Folder that the tables are written to."
    configs: Path = Path("configs")
    "Folder with paper/*.yaml and cla/*.yaml."
    experiments: dict[str, ExperimentPlace] = {}
    "Experiment of the paper (bp4d, disfa-intensity, rafdb-to-affectnet ...) => its data."
    stand_in: StandInConfig = StandInConfig()
    "The synthetic corpus, measured where `experiments` is empty."
    seeds: list[int] = Field([0], min_length=1)
    "Seeds of training; figures are means over them."
    train: bool = True
    "Train what is missing; false = only collect what is there."
    processes: int = Field(1, ge=1)
    "Folds that train at once."
    tracking: TrackingConfig = TrackingConfig(experiment="paper")
