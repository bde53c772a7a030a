"""The config that a sweep changes: base, changes, a trial's values => what runs, and the winner.

Everything is checked here before anything starts: the base itself, that every key of the space is
one of it, and that every value is one that the key may have.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from norface.config import Config, build_config, describe, read_yaml, set_key
from norface.errors import ConfigError, NorfaceError
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, fold_config, list_folds
from norface.evaluation.statistics import MAIN_METRIC
from norface.tracking import TrackingConfig
from norface.training.stages.nor_config import NorConfig
from tune.config import TARGET, SweepConfig
from tune.space import Parameter

PROJECT = Path(__file__).resolve().parents[1]
NORMALIZED_SETTING = "norface"
"Name of the setting where the sweep normalizes and the base names none."
QUIET = TrackingConfig(mlflow=False)
"A trial is one run of MLflow; the stages' runs below it are folders only."


class Base:
    """A base config with the sweep's changes, as the plain values that a yaml holds."""

    def __init__(self, sweep: SweepConfig, values: dict[str, Any] | None = None):
        self.sweep = sweep
        self.schema: type[Config] = NorConfig if sweep.stage == "nor" else CrossvalConfig
        self.path = find_base(sweep.base)
        self.values = values if values is not None else self._read()

    def _read(self) -> dict[str, Any]:
        """The base's yaml with `changes`, checked."""
        values = read_yaml(self.path)
        for key, value in self.sweep.changes.items():
            set_key(values, key.split("."), value)
        config = self._validate(values)
        if isinstance(config, CrossvalConfig):
            self._choose_setting(config)
            if config.cla.data.protocol == "paper" or not config.cla.data.validation_share:
                raise ConfigError(
                    f"{self.path}: has no validation subjects to choose on; a sweep needs"
                    " cla.data.protocol=strict and cla.data.validation_share above 0"
                )
        return values

    def _validate(self, values: Mapping[str, Any]) -> Config:
        return build_config(self.schema, copy.deepcopy(dict(values)), source=self.path)

    def check_space(self) -> None:
        """Raises ConfigError for a key that the base does not have, or a value it may not have."""
        for key, parameter in self.sweep.space.items():
            if key == TARGET:
                continue
            for value in parameter.values:
                self._check_value(key, parameter, value)

    def _check_value(self, key: str, parameter: Parameter, value: Any) -> None:
        values = self.with_values({key: value})
        try:
            self.schema.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            # Two values that only do not fit together are no mistake of the space.
            wrong_key = first["type"] in ("extra_forbidden", "missing")
            if wrong_key or key.rpartition(".")[2] in map(str, first["loc"]):
                raise ConfigError(describe(error, self.schema, "space")) from None

    def with_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The base's values with those of a trial."""
        changed = copy.deepcopy(self.values)
        for key, value in values.items():
            if key != TARGET:
                set_key(changed, key.split("."), value)
        return changed

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether a trial's values are valid together."""
        try:
            self.trial_config(values, Path("unused"))
        except NorfaceError:
            return False
        return True

    def trial_config(self, values: Mapping[str, Any], root: Path, name: str = "run") -> Config:
        """What a trial runs, in ROOT/NAME, resolved. Raises ConfigError."""
        budget, resources = self.sweep.budget, self.sweep.resources
        changed = self.with_values(values)
        changed |= {"root": root, "name": name, "tracking": QUIET}
        if self.sweep.stage == "nor":
            if budget.images is not None:
                set_key(changed, ["trainer", "images"], budget.images)
            config = self._validate(changed)
            assert isinstance(config, NorConfig)
            every = math.ceil(count_steps(config, resources.world_size) / budget.reports)
            trainer = config.trainer.model_copy(update={"evaluate_every_steps": every})
            return config.model_copy(update={"trainer": trainer})
        if budget.epochs is not None:
            set_key(changed, ["cla", "epochs"], budget.epochs)
        config = self._validate(changed)
        assert isinstance(config, CrossvalConfig)
        name = self._choose_setting(config)
        setting = config.settings.get(name)
        settings = {name: setting} if setting is not None else {}
        config = config.model_copy(update={"settings": settings, "seeds": config.seeds[:1]})
        if settings:
            fold_config(config, FoldTask(name, config.seeds[0], "test=part1"))
        return config

    def _choose_setting(self, config: CrossvalConfig) -> str:
        """Name of the setting that trials train."""
        names = list(config.settings)
        wanted = self.sweep.setting
        if self.sweep.normalize is not None:
            return wanted or NORMALIZED_SETTING
        if wanted is None and len(names) == 1:
            return names[0]
        if wanted not in names:
            raise ConfigError(f"setting: found {wanted!r}; the base has: {', '.join(names)}")
        return wanted

    def setting_name(self) -> str:
        """Name of the setting that trials train (stage cla)."""
        config = self._validate(self.values)
        assert isinstance(config, CrossvalConfig)
        return self._choose_setting(config)

    def folds(self) -> list[str]:
        """The folds of a trial, in order (stage cla). Opens the shards' index."""
        names = self.all_folds(self.sweep.folds)
        return self.sweep.folds or names

    def all_folds(self, only: list[str] | None = None) -> list[str]:
        """The folds of the cross-validation; ConfigError where `only` names another."""
        config = self._validate(self.values)
        assert isinstance(config, CrossvalConfig)
        return list_folds(config.model_copy(update={"only": only}))

    def reports(self, folds: int = 1) -> int:
        """Reports of a whole trial."""
        if self.sweep.stage == "nor":
            config = self.trial_config({}, Path("unused"))
            assert isinstance(config, NorConfig)
            steps = count_steps(config, self.sweep.resources.world_size)
            return math.ceil(steps / config.trainer.evaluate_every_steps)
        config = self.trial_config({}, Path("unused"))
        assert isinstance(config, CrossvalConfig)
        return config.cla.epochs * folds

    @property
    def metric(self) -> str:
        """Name of the objective."""
        return self.sweep.objective.metric or self.main_metric

    @property
    def main_metric(self) -> str:
        """The metric that chooses a fold's epoch, or what sums up a normalization."""
        if self.sweep.stage == "nor":
            return "score"
        config = self._validate(self.values)
        assert isinstance(config, CrossvalConfig)
        return MAIN_METRIC[config.cla.task]


def count_steps(config: NorConfig, world_size: int) -> int:
    """Steps of a trial of stage nor."""
    return math.ceil(config.trainer.images / (config.trainer.batch_per_rank * world_size))


def find_base(path: Path) -> Path:
    """A base config from where one is, else from the project's folder. Raises ConfigError."""
    for one in (path, PROJECT / path):
        if one.is_file():
            return one
    raise ConfigError(f"base: {path}: no such config file")
