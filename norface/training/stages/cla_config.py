"""Settings of `norface train cla`, and the labels that they choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from norface.config import Config, Misfit
from norface.data.augment import AugmentConfig
from norface.data.fold_choice import FoldChoice
from norface.data.labels import ACTION_UNITS, DETECTION_UNITS, EMOTIONS, INTENSITY_UNITS, unit_name
from norface.data.mixing import MixConfig
from norface.data.provenance import describe_data, list_datasets
from norface.data.remote import ShardPlace
from norface.data.shards import ShardIndex
from norface.data.streams import Protocol
from norface.errors import CorpusError
from norface.models.classifier import ClassifierConfig
from norface.training.schedule import Beta, ScheduleConfig
from norface.training.stage import StageConfig

Task = Literal["au", "intensity", "emotion"]


class ClaDataConfig(FoldChoice):
    """Faces, their normalized sets, and who tests."""

    shards: list[ShardPlace] = Field([], validate_default=False, min_length=1)
    "Folders of shards with the original faces, read as one; also URLs, see norface.data.remote."
    corpora: list[str] | None = Field(None, min_length=1)
    "Corpora that these faces are of, all of them and no other; null = whatever is there."
    cache_folder: Path | None = None
    "Where shards behind URLs are kept: a folder on a local disk that can hold what is read."
    decoded_folder: Path | None = None
    "Where decoded pictures of all streams are kept, on a local disk; see DataConfig."
    normalized: list[Path | list[Path]] = []
    """Normalized sets, K of them, one more stream each; {fold} in a path stands for the fold's
    name. A list in the list is one stream made of several sets, one a folder of `shards`."""
    features: Path | None = None
    "Feature vectors (.npz or .parquet) in the place of normalized pictures (Table 9)."
    split: str | None = None
    "Only this official split of the shards; null = all."
    protocol: Protocol = "strict"
    "strict = best epoch by validation subjects, no test subject behind a set; paper = last epoch."
    cache: bool = False
    "Keep decoded pictures in memory: for small corpora, where epochs repeat."
    workers: int = Field(0, ge=0)
    "Processes that read and decode beside each rank."


class ClaLossConfig(Config):
    """Weights of equation (11)."""

    importance: float = Field(0.001, ge=0)
    "lambda_imp of L_imp (12)."
    global_local: float = Field(0.001, ge=0)
    "lambda_g&l of L_global + L_local (13)."
    use_global: bool = True
    "Whether L_global is trained on; false = only measured (Table 12)."
    use_local: bool = True
    "Whether L_local is trained on; false = only measured (Table 12)."
    class_weights: bool = False
    """Weigh units or emotions inversely to their frequency among the train subjects; intensities
    have no frequency."""


class OptimizerConfig(Config):
    """AdamW (Adam where the decay is 0)."""

    learning_rate: float = Field(1e-4, gt=0)
    "Absolute rate; the paper's are 1e-4 (au), 1e-3 (intensity) and 2e-5 (emotion)."
    weight_decay: float = Field(0.05, ge=0)
    "Decay of matrices and kernels; biases, norms, tokens and positions have none."
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    "Decay of the running moments."
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor of the rate from each transformer block to the one before, down to the patches: E_f
    that was trained before changes less than what is new; 1 = one rate for all."""


class ClaScheduleConfig(ScheduleConfig):
    """A warm-up, then a cosine to zero."""

    kind: Literal["constant", "cosine"] = "cosine"


class ClaAugmentConfig(AugmentConfig):
    """Small changes of geometry and light."""

    flip: float = Field(0.5, ge=0, le=1)
    shift: float = Field(0.04, ge=0, le=0.5)
    scale: float = Field(0.04, ge=0, lt=1)
    brightness: float = Field(0.1, ge=0, le=1)
    contrast: float = Field(0.1, ge=0, lt=1)


class ClaConfig(StageConfig):
    """Settings of `norface train cla`."""

    name: str = "cla"
    task: Task = "au"
    "au = detection, intensity = 0..5 of action units, emotion = recognition."
    units: list[int] | None = None
    "Action units; null = those that the corpus is reported on."
    epochs: int = Field(40, gt=0)
    "Passes over the train subjects; `trainer.images` is not used."
    data: ClaDataConfig = ClaDataConfig()
    model: ClassifierConfig = ClassifierConfig()
    augment: ClaAugmentConfig = ClaAugmentConfig()
    mix: MixConfig = MixConfig()
    losses: ClaLossConfig = ClaLossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ClaScheduleConfig = ClaScheduleConfig()

    @model_validator(mode="after")
    def _check_settings(self) -> ClaConfig:
        if self.optimizer.layer_decay < 1 and self.model.extractor != "vit":
            raise Misfit("'.optimizer.layer_decay' is for '.model.extractor' vit; set it to 1")
        if self.losses.class_weights and self.task == "intensity":
            raise Misfit("'.losses.class_weights' is for '.task' au or emotion; set it to false")
        return self

    def describe_run(self) -> dict[str, Any]:
        data = self.data
        sets = [
            path for one in data.normalized for path in (one if isinstance(one, list) else [one])
        ]
        datasets = list_datasets(data.shards, cache=data.cache_folder)
        datasets += list_datasets([str(path).replace("{fold}", data.fold) for path in sets])
        return describe_data(datasets, self.task, fold=data.fold)


def choose_targets(config: ClaConfig, index: ShardIndex) -> list[str]:
    """Names of the outputs: "AU12", or the emotions that occur in every corpus of the index.

    Raises CorpusError where the task has no label.
    """
    if config.task == "emotion":
        numbers, corpora = index.emotions(), index.table["corpus"].astype(str).to_numpy()
        there = set(numbers.tolist())
        # A class that one of several corpora lacks could be trained but not tested, or the reverse.
        for corpus in set(corpora.tolist()):
            there &= set(numbers[corpora == corpus].tolist())
        found = [name for number, name in enumerate(EMOTIONS) if number in there]
        if len(found) < 2:
            raise CorpusError(
                f"{index.name}: {len(found)} emotions are labelled; recognition needs two or more"
            )
        return found
    kind = "au" if config.task == "au" else "intensity"
    units = config.units or list_units(index, DETECTION_UNITS if kind == "au" else INTENSITY_UNITS)
    labels = index.labels(kind, units)
    empty = [
        unit_name(u)
        for u, known in zip(units, (~np.isnan(labels)).any(0), strict=True)
        if not known
    ]
    if empty or not units:
        raise CorpusError(
            f"{index.name}: no {kind} labels for {', '.join(empty) or 'any action unit'}; choose"
            " units=[...] or another task"
        )
    return [unit_name(unit) for unit in units]


def list_units(index: ShardIndex, reported: dict[str, tuple[int, ...]]) -> list[int]:
    """Units that all corpora of the index are reported on; of an unknown corpus, all units."""
    chosen = set(ACTION_UNITS)
    for corpus, _ in index.persons:
        chosen &= set(reported.get(corpus, ACTION_UNITS))
    return sorted(chosen)


def check_labels(
    labels: np.ndarray, targets: list[str], task: Task, *, part: str, fold: str
) -> list[str]:
    """Targets that never occur among the labels of a part of a fold; the caller says so.

    Raises CorpusError for a target without any label there, and where a single class is left.
    """
    where = f"fold '{fold}': the {part} subjects"
    if task == "emotion":
        counts = np.bincount(labels[labels >= 0], minlength=len(targets))
        there = [name for name, count in zip(targets, counts, strict=True) if count]
        if not there:
            raise CorpusError(f"{where} have no emotion labels; choose another task or corpus")
        if len(there) == 1 and part == "train":
            raise CorpusError(f"{where} show {there[0]} only; recognition needs two or more")
        return [name for name in targets if name not in there]
    unknown = np.isnan(labels).all(axis=0)
    if unknown.any():
        names = ", ".join(name for name, no in zip(targets, unknown, strict=True) if no)
        raise CorpusError(f"{where} have no label for {names}; choose units=[...] without it")
    absent = ~(np.nan_to_num(labels) > 0).any(axis=0)
    return [name for name, no in zip(targets, absent, strict=True) if no]


def read_labels(task: Task, targets: list[str], index: ShardIndex) -> np.ndarray:
    """Labels of an index: float32 (N, T) with NaN = missing; emotions int64 (N), -1 = missing."""
    if task == "emotion":
        position = {EMOTIONS.index(name): number for number, name in enumerate(targets)}
        return np.array([position.get(number, -1) for number in index.emotions()], np.int64)
    units = [int(name.removeprefix("AU")) for name in targets]
    return index.labels("au" if task == "au" else "intensity", units)
