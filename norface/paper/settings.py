"""Rows of the paper as settings of a cross-validation (configs/paper/settings.yaml)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from norface.config import flatten, load_config, merge, read_yaml
from norface.errors import ConfigError
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, Setting, fold_config
from norface.paper.config import ExperimentPlace, PaperConfig

SAME = "same run as"
"Beginning of why a setting is absent that changes nothing here."
PLAIN = {"without": "w/o Idn", "norface": "w/ Idn"}
"Settings that change nothing of the classifier, as the paper calls them."
TARGET = "target-"
"Beginning of the settings of target identities (Figure 4)."


def read_settings(config: PaperConfig, place: ExperimentPlace) -> dict[str, Any]:
    """Setting => what settings.yaml says of it; each target identity is a setting of its own."""
    known = read_yaml(config.configs / "paper" / "settings.yaml")
    return known | {TARGET + name: {"set": TARGET + name} for name in place.targets}


def build_crossval(
    config: PaperConfig, experiment: str, place: ExperimentPlace, settings: Sequence[str]
) -> tuple[CrossvalConfig | None, dict[str, str]]:
    """The cross-validation of the settings whose data is there, and why the others are not."""
    known = read_settings(config, place)
    sets = place.sets | {TARGET + name: one for name, one in place.targets.items()}
    base = read_classifier(config, experiment, place)
    chosen: dict[str, Setting] = {}
    absent: dict[str, str] = {}
    for name in settings:
        if name not in known:
            raise ConfigError(
                f"{config.configs / 'paper'}: no setting '{name}'; settings.yaml has"
                f" {', '.join(known)}"
            )
        wanted = dict(known[name] or {})
        group, features = wanted.pop("set", None), wanted.pop("features", False)
        if group is not None and group not in sets:
            absent[name] = f"no normalized set (experiments.{experiment}.sets.{group})"
        elif features and place.features is None:
            absent[name] = f"no features (experiments.{experiment}.features)"
        else:
            values: dict[str, Any] = {"normalized": sets[group]} if group else {}
            values |= {"features": place.features} if features else {}
            chosen[name] = Setting.model_validate({**values, **wanted})
    if not chosen:
        return None, absent
    crossval = CrossvalConfig.model_validate(
        {
            "name": f"{config.name}/{experiment}",
            "root": config.root,
            "cla": base,
            "settings": {name: one.model_dump() for name, one in chosen.items()},
            "seeds": config.seeds,
            "processes": config.processes,
            "tracking": config.tracking,
        }
    )
    for name in [*chosen]:
        if twin := find_twin(crossval, name):
            absent[name] = twin
            del chosen[name]
    if not chosen:
        return None, absent
    return crossval.model_copy(update={"settings": chosen}), absent


def find_twin(crossval: CrossvalConfig, name: str) -> str:
    """Why a setting is no experiment of its own: what it changes of the classifier is so already.

    For example E_f from nothing where it has no pre-trained weights anyway. '' = it is one.
    """
    setting = crossval.settings[name]
    plain = setting.model_copy(update={"cla": {}})
    pair = crossval.model_copy(update={"settings": {"own": setting, "plain": plain}})
    one, other = (
        fold_config(pair, FoldTask(which, 0, "")).model_copy(update={"name": ""})
        for which in ("own", "plain")
    )
    if not setting.cla or one != other:
        return ""
    changes = ", ".join(f"{key}={json.dumps(value)}" for key, value in flatten(setting.cla).items())
    return f"{SAME} {PLAIN['norface' if setting.normalized else 'without']}: {changes} anyway"


def read_classifier(config: PaperConfig, experiment: str, place: ExperimentPlace) -> dict[str, Any]:
    """`cla` of the experiment's config, with the differences and the shards of its place."""
    path = place.config or config.configs / "cla" / f"{experiment}.yaml"
    base = load_config(CrossvalConfig, path).model_dump(exclude_unset=True)
    cla = merge(base["cla"], place.cla)
    return merge(cla, {"data": {"shards": place.shards}})
