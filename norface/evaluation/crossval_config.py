"""Settings of `norface crossval`, and the folds that they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, field_validator

from norface.config import Config, build_config, flatten, set_key
from norface.data.parts import parse_part
from norface.errors import ConfigError, CorpusError
from norface.tracking import TrackingConfig
from norface.training.stages.cla_config import (
    ClaConfig,
    check_labels,
    choose_targets,
    read_labels,
)


class Setting(Config):
    """What one setting gives the classifier beside the originals, and what it changes of it."""

    normalized: list[Path | list[Path]] = []
    "Normalized sets as in cla.data.normalized; {fold} stands for the fold's name."
    features: Path | None = None
    "Features in the place of normalized pictures."
    cla: dict[str, Any] = {}
    "Differences of this setting's classifier from `cla`, for example {model: {input_moe: false}}."


class CrossvalConfig(Config):
    """Settings of `norface crossval`."""

    name: str = "crossval"
    "Name of the cross-validation: its folder is ROOT/NAME."
    root: Path = Path("runs")
    "Folder that holds the run folders."
    cla: ClaConfig = ClaConfig()
    "The classifier; name, root, seed, data.fold, data.normalized and data.features are set here."
    settings: dict[str, Setting] = Field({"without": Setting()}, min_length=1)
    "Name => what is compared; null = originals only, a folder = a set, a file = features."
    seeds: list[int] = Field([0], min_length=1)
    "Seeds of training; figures are means over them."
    only: list[str] | None = None
    "Folds to train now; null = all. The summary is written once all are there."
    part: str | None = None
    """I/N: this job trains the I-th of N shares of all settings, seeds and folds, and summarizes
    nothing, so that N jobs can run at once; `norface crossval --collect` does that afterwards."""
    processes: int = Field(1, ge=1)
    "Folds that train at once on this machine, each in a process of its own with one thread."
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("settings", mode="before")
    @classmethod
    def _read_short_forms(cls, settings: Any) -> Any:
        if not isinstance(settings, Mapping):
            return settings
        return {name: _read_setting(value) for name, value in settings.items()}

    @property
    def folder(self) -> Path:
        """ROOT/NAME."""
        return self.root / self.name


def _read_setting(value: Any) -> Any:
    if value is None:
        return {}
    if isinstance(value, str | Path):
        is_file = str(value).endswith((".npz", ".parquet"))
        return {"features": value} if is_file else {"normalized": [value]}
    return {"normalized": value} if isinstance(value, list) else value


class FoldTask(NamedTuple):
    """One fold of one setting and seed, to train and predict."""

    setting: str
    seed: int
    fold: str

    @property
    def name(self) -> str:
        """SETTING/seedS/FOLD, the run folder below that of the cross-validation."""
        return f"{self.setting}/seed{self.seed}/{self.fold}"


def fold_config(config: CrossvalConfig, task: FoldTask) -> ClaConfig:
    """The stage's config of one fold. Raises ConfigError for a change that the stage refuses."""
    chosen = config.settings[task.setting]
    values = config.cla.model_dump(exclude_unset=True)
    for key, value in flatten(chosen.cla).items():
        set_key(values, key.split("."), value)
    set_key(values, ["data", "fold"], task.fold)
    set_key(values, ["data", "normalized"], chosen.normalized)
    set_key(values, ["data", "features"], chosen.features)
    values |= {
        "name": str(Path(config.name) / task.name),
        "root": config.root,
        "seed": task.seed,
    }
    return build_config(ClaConfig, values, under=f"settings.{task.setting}.cla")


def check_sources(config: CrossvalConfig, tasks: Sequence[FoldTask]) -> None:
    """Look for the sets, features and labels of all folds, before the first of them is trained.

    Raises ConfigError and CorpusError naming the setting whose set is not there, or the fold that
    has nothing to be tested by.
    """
    from norface.data.indexing import INDEX_NAME, read_index
    from norface.data.normalized import read_set
    from norface.training.stages.cla_folds import find_sets

    for task in tasks:
        data = fold_config(config, task).data
        try:
            for folder in {one for sets in find_sets(data.normalized, task.fold) for one in sets}:
                read_set(folder)
                if not (folder / INDEX_NAME).is_file():
                    read_index(folder)
        except (ConfigError, CorpusError) as error:
            raise type(error)(f"settings.{task.setting}: {error}") from None
        if data.features is not None and not data.features.is_file():
            raise ConfigError(f"settings.{task.setting}: {data.features}: no such file of features")
    if tasks:
        check_tested(config)


def check_tested(config: CrossvalConfig) -> None:
    """Raise CorpusError where a fold's test subjects have no label of a target: the mean over the
    folds would be of other targets there."""
    from norface.training.stages.cla_folds import open_folds, open_index

    index = open_index(config.cla.data)
    targets = choose_targets(config.cla, index)
    labels = read_labels(config.cla.task, targets, index)
    for fold in open_folds(config.cla.data, index):
        rows = index.rows_of_persons(fold.test)
        check_labels(labels[rows], targets, config.cla.task, part="test", fold=fold.name)


def list_folds(config: CrossvalConfig) -> list[str]:
    """Names of all folds. Raises ConfigError where `only` names another."""
    from norface.training.stages.cla_folds import open_folds, open_index

    data = config.cla.data
    names = [fold.name for fold in open_folds(data, open_index(data))]
    for wanted in config.only or []:
        if wanted not in names:
            raise ConfigError(f"only: found '{wanted}'; there are: {', '.join(names)}")
    return names


def list_tasks(config: CrossvalConfig) -> list[FoldTask]:
    """Every fold that this job trains, in the order in which it does; each config is checked."""
    names = list_folds(config)
    tasks = [
        FoldTask(setting, seed, fold)
        for seed in config.seeds
        for setting in config.settings
        for fold in config.only or names
    ]
    for task in tasks:
        fold_config(config, task)
    if config.part is None:
        return tasks
    number, count = parse_part(config.part)
    return tasks[number - 1 :: count]
