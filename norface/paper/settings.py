"""Rows of the paper as settings of a cross-validation (configs/paper/settings.yaml)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from norface.config import build_config, flatten, load_config, merge, read_yaml
from norface.data.streams import Protocol
from norface.errors import ConfigError
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, Setting, fold_config
from norface.paper.config import STAND_IN, ExperimentPlace, PaperConfig
from norface.training.stages.cla_config import ClaDataConfig

PLAIN = {"without": "w/o Idn", "norface": "w/ Idn"}
"Settings that change nothing of the classifier, as the paper calls them."
TARGET = "target-"
"Beginning of the settings of target identities (Figure 4)."


class Twin(NamedTuple):
    """A setting that changes nothing here: what it asks of the classifier is so anyway."""

    setting: str
    "The plain setting that has the same runs."
    why: str
    "For the reader of a table."


class Built(NamedTuple):
    """The cross-validation that some rows of the paper are."""

    crossval: CrossvalConfig | None
    "Of the settings whose data is there; None = of none."
    absent: dict[str, str]
    "Setting => why it is not in it."
    twins: dict[str, Twin]
    "Setting => the one that stands in it in its place."


def name_variant(setting: str, protocol: str, own: str) -> str:
    """The setting by a protocol: `norface` by the experiment's own, else `norface.paper`."""
    return setting if protocol == own else f"{setting}.{protocol}"


def read_settings(
    config: PaperConfig, experiment: str, place: ExperimentPlace
) -> dict[str, dict[str, Any]]:
    """Setting => what settings.yaml says of it; each target identity is a setting of its own, and
    so is each by the other protocol, with that one among the changes of its `cla`."""
    known = read_yaml(config.configs / "paper" / "settings.yaml")
    known |= {TARGET + name: {"set": TARGET + name} for name in place.targets}
    own = read_protocol(config, experiment, place)
    found = {name: dict(one or {}) for name, one in known.items()}
    for protocol in get_args(Protocol):
        change = {"data": {"protocol": protocol}}
        for name, one in known.items():
            if protocol != own:
                wanted = dict(one or {})
                changed = {**wanted, "cla": merge(wanted.get("cla", {}), change)}
                found[name_variant(name, protocol, own)] = changed
    return found


def read_protocol(config: PaperConfig, experiment: str, place: ExperimentPlace) -> Protocol:
    """The protocol that the experiment's config names."""
    default: Protocol = ClaDataConfig.model_fields["protocol"].default
    named: Protocol = read_classifier(config, experiment, place)["data"].get("protocol", default)
    return named


def build_crossval(
    config: PaperConfig, experiment: str, place: ExperimentPlace, settings: Sequence[str]
) -> Built:
    """The cross-validation of the settings whose data is there, and why the others are not.

    Raises ConfigError for a setting that is not known, and for values that the classifier refuses.
    """
    known = read_settings(config, experiment, place)
    groups = dict.fromkeys(one["set"] for one in known.values() if one.get("set"))
    for name in place.paper_sets:
        if name not in groups:
            raise ConfigError(
                f"experiments.{experiment}.paper_sets: no row is of '{name}'; there are:"
                f" {', '.join(groups)}"
            )
    chosen: dict[str, Setting] = {}
    absent: dict[str, str] = {}
    twins: dict[str, Twin] = {}
    plain: dict[str, str] = {}
    for name in settings:
        if name not in known:
            raise ConfigError(
                f"{config.configs / 'paper'}: no setting '{name}'; settings.yaml has"
                f" {', '.join(known)}"
            )
        wanted = dict(known[name])
        group, features = wanted.pop("set", None), wanted.pop("features", False)
        protocol = wanted.get("cla", {}).get("data", {}).get("protocol")
        sets = list_sets(place, protocol or read_protocol(config, experiment, place))
        if group is not None and group not in sets:
            absent[name] = f"no normalized set (experiments.{experiment}.sets.{group})"
        elif features and place.features is None:
            absent[name] = f"no features (experiments.{experiment}.features)"
        else:
            values: dict[str, Any] = {"normalized": sets[group]} if group else {}
            values |= {"features": place.features} if features else {}
            if group in (None, "norface") and not features:
                plain[name] = group or "without"
            chosen[name] = build_config(
                Setting,
                {**values, **wanted},
                source=config.configs / "paper" / "settings.yaml",
                under=name,
            )
    if not chosen:
        return Built(None, absent, twins)
    crossval = _make_crossval(config, experiment, place, chosen)
    for name, base in plain.items():
        if twin := find_twin(crossval, name, base):
            twins[name] = twin
            chosen[twin.setting] = chosen.pop(name).model_copy(
                update={"cla": _plain_changes(crossval.settings[name])}
            )
    return Built(crossval.model_copy(update={"settings": chosen}), absent, twins)


def list_sets(place: ExperimentPlace, protocol: str) -> dict[str, list[Any]]:
    """Name => normalized sets by a protocol, those of targets as well."""
    sets = place.sets | {TARGET + name: one for name, one in place.targets.items()}
    return sets | place.paper_sets if protocol == "paper" else sets


def _make_crossval(
    config: PaperConfig, experiment: str, place: ExperimentPlace, chosen: Mapping[str, Setting]
) -> CrossvalConfig:
    values = {
        "name": f"{config.name}/{experiment}",
        "root": config.root,
        "cla": read_classifier(config, experiment, place),
        "settings": {name: one.model_dump() for name, one in chosen.items()},
        "seeds": config.seeds,
        "processes": config.processes,
        "tracking": config.tracking,
    }
    return build_config(CrossvalConfig, values, under=f"experiments.{experiment}")


def find_twin(crossval: CrossvalConfig, name: str, base: str) -> Twin | None:
    """The plain setting that this one is, since what it changes of the classifier is so already.

    For example E_f from nothing where it has no pre-trained weights anyway. `base`: the one of
    PLAIN that is given the same pictures.
    """
    setting = crossval.settings[name]
    kept = _plain_changes(setting)
    plain = setting.model_copy(update={"cla": kept})
    pair = crossval.model_copy(update={"settings": {"own": setting, "plain": plain}})
    one, other = (
        fold_config(pair, FoldTask(which, 0, "")).model_copy(update={"name": ""})
        for which in ("own", "plain")
    )
    if setting.cla == kept or one != other:
        return None
    changes = flatten({key: value for key, value in setting.cla.items() if key not in kept})
    told = ", ".join(f"{key}={json.dumps(value)}" for key, value in changes.items())
    protocol = kept.get("data", {}).get("protocol")
    same = name_variant(base, protocol, "") if protocol else base
    return Twin(same, f"same run as {PLAIN[base]}: {told} anyway")


def _plain_changes(setting: Setting) -> dict[str, Any]:
    """What a setting has of its protocol alone."""
    protocol = setting.cla.get("data", {}).get("protocol")
    return {"data": {"protocol": protocol}} if protocol else {}


def read_classifier(config: PaperConfig, experiment: str, place: ExperimentPlace) -> dict[str, Any]:
    """`cla` of the experiment's config, with the differences and the shards of its place."""
    name = experiment
    if name.startswith(STAND_IN):
        name = name.replace("-to-webcam", "").replace(STAND_IN, f"{STAND_IN}-64", 1)
    path = place.config or config.configs / "cla" / f"{name}.yaml"
    base = load_config(CrossvalConfig, path).model_dump(exclude_unset=True)
    cla = merge(base.get("cla", {}), place.cla)
    return merge(cla, {"data": {"shards": place.shards}})
