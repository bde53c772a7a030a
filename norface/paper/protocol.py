"""What exactly was measured, as the runs themselves say it: their configs and classifier files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from norface.config import load_config
from norface.data.normalized import TRUTH, read_set
from norface.data.shards import ShardIndex
from norface.data.streams import find_tested
from norface.errors import NorfaceError
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, list_folds
from norface.tracking import CONFIG_FILE
from norface.training.stages.cla_config import ClaConfig
from norface.training.stages.cla_folds import find_sets, open_folds, open_index

CHOSEN = "epoch chosen on validation subjects, who are not trained on"
SEES = {
    "strict": f"{CHOSEN}; no set, target or E_f that saw a subject of the fold's test",
    "paper": "last epoch, trained on the validation subjects too; F_nor, the target and E_f may"
    " have seen the fold's test subjects",
}
"Protocol => what it may see and how it chooses."
Streams = dict[str, list[dict[str, Any]]]
"Fold => the normalized streams of its classifier (norface.data.normalized.StreamSource)."


def describe_runs(crossval: CrossvalConfig, record: Mapping[str, Any]) -> dict[str, str]:
    """Notes below a table, of the settings that are in the record."""
    names = list(record.get("settings", {}))
    if not names:
        return {"runs": str(crossval.folder)}
    runs = {name: read_config(crossval, name) for name in names}
    summary = record["settings"][names[0]]
    about = {
        "corpus": ", ".join(_list_corpora(crossval)),
        "measured": _name_targets(summary),
        "shards": _share({n: ", ".join(map(str, one.data.shards)) for n, one in runs.items()}),
        "protocol": _share({name: name_protocol(one) for name, one in runs.items()}),
        "folds": ", ".join(summary["folds"]),
        "fold list": _share(
            {n: one.data.folds or f"drawn, seed {one.data.seed}" for n, one in runs.items()}
        ),
        "seeds": ", ".join(map(str, crossval.seeds)),
        "epochs": _share({name: str(one.epochs) for name, one in runs.items()}),
        "E_f": _share({name: _name_extractor(one) for name, one in runs.items()}),
        "runs": str(crossval.folder),
        "tested": f"{summary['frames']} pictures of {summary['persons']} persons",
    }
    if never := summary.get("never_present"):
        each = [f"{', '.join(units)} ({fold})" for fold, units in never.items()]
        about["never present among the tested, so F1 is 0 there"] = ", ".join(each)
    streams: dict[str, list[str]] = {}
    for name in names:
        if text := describe_streams(read_streams(crossval, name)):
            streams.setdefault(text, []).append(name)
    seen = {
        name: count_seen(crossval, name) for name in names if crossval.settings[name].normalized
    }
    if seen:
        about["test subjects that the sets' generators saw"] = _share(seen)
    return about | {f"set of {', '.join(some)}": text for text, some in streams.items()}


def _list_corpora(crossval: CrossvalConfig) -> list[str]:
    data = crossval.cla.data
    index = ShardIndex.open(data.shards, cache=data.cache_folder)
    return sorted({corpus for corpus, _ in index.persons} or set(index.table["corpus"].astype(str)))


def _name_targets(summary: Mapping[str, Any]) -> str:
    """The units, or the classes, that a mean is over."""
    names = summary["confusion"]["classes"] if "confusion" in summary else summary["targets"]
    return ", ".join(names)


def count_seen(crossval: CrossvalConfig, setting: str) -> str:
    """'0 of 9', by the cards of the sets that the runs name, over all folds; what is not known is
    said so."""
    data = crossval.cla.data
    streams, seen, tested = read_streams(crossval, setting), 0, 0
    for fold in open_folds(data, open_index(data)):
        persons: set[tuple[str, str]] = set()
        try:
            sets = find_sets(crossval.settings[setting].normalized, fold.name)
            cards = [read_set(folder) for stream in sets for folder in stream]
        except NorfaceError:
            return "not known (a set is no longer there)"
        trained_by = {g for one in streams.get(fold.name, []) for g in one["generators"]}
        if {card.generator for card in cards} != trained_by:
            return "not known (the sets have changed since the runs)"
        for card in cards:
            if card.trained_on is None:
                return "not known (released pictures)"
            persons |= {(corpus, subject) for corpus, subject in card.trained_on}
        seen += len(find_tested(persons, fold.test))
        tested += len(fold.test)
    return f"{seen} of {tested}"


def read_config(crossval: CrossvalConfig, setting: str) -> ClaConfig:
    """The config that a setting's first run was trained by. Raises ConfigError."""
    task = FoldTask(setting, crossval.seeds[0], list_folds(crossval)[0])
    return load_config(ClaConfig, crossval.folder / task.name / CONFIG_FILE)


def read_streams(crossval: CrossvalConfig, setting: str) -> Streams:
    """The normalized streams that a setting's classifiers were trained on, by their files."""
    from norface.training.stages.cla import WEIGHTS_FILE

    found = {}
    for fold in list_folds(crossval):
        folder = crossval.folder / FoldTask(setting, crossval.seeds[0], fold).name
        found[fold] = _read_about(folder / WEIGHTS_FILE).get("normalized", [])
    return found


def _read_about(path: Path) -> dict[str, Any]:
    """What a classifier's file says of itself; {} where it was removed."""
    if not path.is_file():
        return {}
    with safe_open(str(path), framework="pt") as file:
        return dict(json.loads((file.metadata() or {}).get("norface", "{}")))


def is_truth(streams: Streams) -> bool:
    """Whether all normalized faces were rendered, not generated by an F_nor."""
    generators = {g for some in streams.values() for one in some for g in one["generators"]}
    return generators == {TRUTH}


def describe_streams(streams: Streams) -> str:
    """'K = 1, generator 0a1b...', of every fold where they differ; '' = originals alone."""
    count = max(map(len, streams.values()), default=0)
    if not count:
        return ""
    names = {
        fold: ", ".join(dict.fromkeys(g for one in some for g in one["generators"]))
        for fold, some in streams.items()
    }
    different = len(set(names.values())) > 1
    each = (
        [f"{name} ({fold})" for fold, name in names.items()] if different else [names.popitem()[1]]
    )
    truth = " (rendered true faces: a ceiling, no F_nor)" if is_truth(streams) else ""
    return f"K = {count}, generator {', '.join(dict.fromkeys(each))}{truth}"


def name_protocol(config: ClaConfig) -> str:
    """`strict` or `paper`, and what a run under it may see and chooses by."""
    sees = SEES[config.data.protocol]
    if not config.data.validation_share:
        sees = sees.replace(CHOSEN, "last epoch, no validation subjects")
    return f"{config.data.protocol} ({sees})"


def _name_extractor(config: ClaConfig) -> str:
    return f"{config.model.extractor}, starting from {config.model.extractor_weights or 'nothing'}"


def _share(values: Mapping[str, str]) -> str:
    """One text for all settings, or each text with its settings."""
    by_text: dict[str, list[str]] = {}
    for name, text in values.items():
        by_text.setdefault(text, []).append(name)
    if len(by_text) == 1:
        return next(iter(by_text))
    return "; ".join(f"{text} [{', '.join(names)}]" for text, names in by_text.items())
