"""Settings of `norface paper`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from norface.config import Config
from norface.data.streams import Protocol
from norface.tracking import TrackingConfig

STAND_IN = "synthetic"
"The corpus that stands in, under its own name, for those that are not given."


class ExperimentPlace(Config):
    """Where the data of an experiment is."""

    shards: list[Path] = Field(min_length=1)
    "Folders of shards with the original faces."
    sets: dict[str, list[Path | list[Path]]] = {}
    """Name => normalized sets, K of them: `norface` = of the paper's F_nor, `without_eye` = of one
    that was trained without L_eye (losses.eye=null), `without_exp` without L_exp. {fold} stands for
    the fold's name, a part `*` for the only folder there."""
    paper_sets: dict[str, list[Path | list[Path]]] = {}
    """The same of an F_nor that was fine-tuned on everybody, for protocol `paper`; a name that is
    absent here is read from `sets`."""
    targets: dict[str, list[Path | list[Path]]] = {}
    """Target identity => the normalized set with it (Figures 4 and 9); any name of letters, digits,
    - and _."""
    others: dict[str, Path] = {}
    """Somebody else's normalizer => its pictures (Figure 5): a normalized set, or a folder of
    pictures that are named KEY.png or KEY.jpg by the keys of the originals."""
    features: Path | None = None
    "Expression features of every face (Table 9)."
    config: Path | None = None
    """Config of its cross-validation; null = configs/cla/EXPERIMENT.yaml, for synthetic faces
    synthetic-64.yaml and its like."""
    cla: dict[str, Any] = {}
    "Differences from that config's `cla`."


class StandInConfig(Config):
    """Synthetic faces that `norface paper` renders for what is not given."""

    enabled: bool = True
    "Whether they stand in; false = only what is in `experiments` is measured."
    subjects: int = Field(24, ge=9)
    "Persons of the three folds."
    frames: int = Field(40, ge=4)
    "Pictures of each."
    side: int = Field(64, ge=16)
    "Pixels of a picture's side."
    epochs: int = Field(16, gt=0)
    "Of the small classifier."
    targets: int = Field(3, ge=1)
    "Target identities of Figures 4 and 9."
    normalizer_images: int = Field(0, ge=0)
    """Pictures that small F_nor train on, one with all losses, one without L_eye, one without L_exp
    (Table 10, Figure 6); 0 = none: the true normalized faces stand for F_nor's."""
    normalizer: Path = Path("synthetic-64.yaml")
    """Their config in CONFIGS/nor. In synthetic-64-ablation.yaml little but critics asks for the
    expression, so that its ablations tell of L_exp and L_eye."""
    normalizer_subjects: int = Field(40, ge=1)
    "Persons that they train on, none of the folds."
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
    "The synthetic corpus, measured for what `experiments` has not."
    seeds: list[int] = Field([0], min_length=1)
    "Seeds of training; figures are means over them."
    protocols: list[Protocol] | None = Field(None, min_length=1)
    """Who may see whom (cla.data.protocol), each in a column of its own: [strict, paper] shows both
    side by side; null = the one that an experiment's config names."""
    train: bool = True
    "Train what is missing; false = only collect what is there."
    processes: int = Field(1, ge=1)
    "Folds that train at once."
    tracking: TrackingConfig = TrackingConfig(experiment="paper")
