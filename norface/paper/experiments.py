"""What a table needs of one experiment, measured: settings of one cross-validation.

ROOT/NAME/bp4d/norface/seed0/test=part1/predictions.parquet   the same run in Tables 1, 7, 8 ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from norface.errors import ConfigError
from norface.evaluation.collecting import RESULT_FILE
from norface.paper.config import STAND_IN, ExperimentPlace, PaperConfig
from norface.paper.corpora import check_corpora
from norface.paper.faces import TRUE_FACES
from norface.paper.pairs import Draws, draw_settings
from norface.paper.protocol import describe_runs, is_truth, read_streams
from norface.paper.published import MEAN, PER_CENT, PublishedTable
from norface.paper.recording import bring_runs
from norface.paper.settings import name_variant, read_classifier, read_protocol

TASK_OF = {"f1": "au", "icc": "intensity", "mse": "intensity", "mae": "intensity"}
"Metric of a published row => task; accuracy is that of emotions."
ACROSS = f"{STAND_IN}-to-webcam"
"Stands in for experiments across corpora: norface.paper.second_corpus."
SUFFIX = {"au": "", "intensity": "-intensity", "emotion": "-emotion"}
STAND_INS = [name + suffix for name in (STAND_IN, ACROSS) for suffix in SUFFIX.values()]
"Names under which synthetic faces stand in."


class Measured(NamedTuple):
    """Our numbers of one setting in the paper's units."""

    values: dict[str, dict[str, float]]
    "Metric => column (AU1, ..., Avg.) => number."
    interval: tuple[float, float] | None
    "95 % of the main metric's mean, by persons."
    summary: dict[str, Any]


class Outcome(NamedTuple):
    """What came out of one experiment."""

    settings: dict[str, Measured]
    "Only those that are there."
    absent: dict[str, str]
    "Setting => why it is not."
    about: dict[str, str]
    "Protocol, folds, seeds ...: what exactly was compared."
    remarks: dict[str, str]
    "Setting => what its number is not, where the row's name says more than was measured."
    draws: dict[str, Draws]
    "Setting => the draws of persons behind its interval."
    own: str
    "The protocol that the experiment's config names."
    protocols: list[str]
    "Those that are shown side by side."

    def variants(self, setting: str) -> dict[str, str]:
        """Protocol => the setting by it."""
        return {one: name_variant(setting, one, self.own) for one in self.protocols}


def task_of(metric: str) -> str:
    """The task that a metric of the paper belongs to."""
    return TASK_OF.get(metric, "emotion")


def run_experiment(
    config: PaperConfig, experiment: str, task: str, settings: Sequence[str]
) -> Outcome:
    """Train what is missing of these settings by every protocol, collect the rest.

    Raises NorfaceError, ConfigError where the experiment's classifier has another task.
    """
    if not config.train and experiment not in config.experiments:
        folder = config.root / config.name / experiment
        if not (folder / RESULT_FILE).is_file():
            why = f"{folder} has no runs, and train=false trains none"
            return Outcome({}, dict.fromkeys(settings, why), {}, {}, {}, "", [""])
    place = find_place(config, experiment, task)
    found_task = read_classifier(config, experiment, place).get("task", "au")
    if found_task != task:
        raise ConfigError(
            f"experiments.{experiment}: its classifier has task={found_task}, but the table's"
            f" numbers are of task={task}; give its `config`, or `cla.task`"
        )
    own = read_protocol(config, experiment, place)
    outcome = Outcome({}, {}, {}, {}, {}, own, list(config.protocols or [own]))
    asked = [name for one in settings for name in outcome.variants(one).values()]
    runs = bring_runs(config, experiment, place, asked)
    if runs.crossval is None:
        return outcome._replace(absent=runs.absent)
    found = {name: measure(one) for name, one in runs.record.get("settings", {}).items()}
    remarks = {}
    for name in found:
        if is_truth(read_streams(runs.crossval, name)):
            remarks[name] = TRUE_FACES
        elif experiment not in config.experiments and runs.crossval.settings[name].features:
            nearly = "" if task == "emotion" else ", nearly the labels"
            remarks[name] = f"the packaged reader's action units{nearly}"
    about = describe_runs(runs.crossval, runs.record)
    draws = draw_settings(runs.crossval, list(found))
    absent = dict(runs.absent)
    for name, twin in runs.twins.items():
        if twin.setting in found:
            found[name], draws[name] = found[twin.setting], draws[twin.setting]
            remark = remarks.get(twin.setting)
            remarks[name] = f"{twin.why}; {remark}" if remark else twin.why
        else:
            absent[name] = f"{twin.why}; {runs.absent.get(twin.setting, 'not run')}"
    return outcome._replace(
        settings=found, absent=absent, about=about, remarks=remarks, draws=draws
    )


def find_place(config: PaperConfig, experiment: str, task: str) -> ExperimentPlace:
    """The data of an experiment; that of the stand-in is rendered.

    Raises ConfigError, and CorpusError for shards of another corpus than the experiment's.
    """
    if experiment in config.experiments:
        check_corpora(config, experiment, config.experiments[experiment])
        return config.experiments[experiment]
    if not experiment.startswith(STAND_IN):
        raise ConfigError(f"experiments: nothing is said of '{experiment}'")
    from norface.paper.stand_in import normalize_by_small, write_stand_in

    shards, truth, features = write_stand_in(config)
    if config.stand_in.normalizer_images:
        sets = normalize_by_small(config, shards, "normalized")
    else:
        sets = {"norface": truth}
    place = make_place(config, task, shards, sets, features)
    return add_webcam(config, place) if experiment.startswith(ACROSS) else place


def make_place(
    config: PaperConfig, task: str, shards: Path, sets: Mapping[str, Path], features: Path
) -> ExperimentPlace:
    """The stand-in as an experiment's data."""
    return ExperimentPlace(
        shards=[shards],
        sets={name: [one] for name, one in sets.items()},
        features=features,
        config=config.configs / "cla" / f"synthetic-64{SUFFIX[task]}.yaml",
        cla={"epochs": config.stand_in.epochs},
    )


def sketch_place(config: PaperConfig, task: str) -> ExperimentPlace:
    """The stand-in before it is rendered: which settings it will have."""
    from norface.paper.stand_in import ABLATIONS

    names = list(ABLATIONS) if config.stand_in.normalizer_images else ["norface"]
    nowhere = Path("not-rendered")
    return make_place(config, task, nowhere, dict.fromkeys(names, nowhere), nowhere)


def add_webcam(config: PaperConfig, place: ExperimentPlace) -> ExperimentPlace:
    """Train on the stand-in, test on the second synthetic corpus."""
    from norface.paper.second_corpus import WEBCAM, write_webcam
    from norface.paper.stand_in import TARGETS, normalize_by_small

    folder = config.root / config.name / "data"
    shards, truth = write_webcam(config, folder / TARGETS)
    by_small = config.stand_in.normalizer_images > 0
    name = f"{WEBCAM}-normalized"
    sets = normalize_by_small(config, shards, name) if by_small else {"norface": truth}
    across = {"folds": "corpora", "train_corpora": [STAND_IN], "fold": f"test={WEBCAM}"}
    return ExperimentPlace(
        shards=[*place.shards, shards],
        # One stream of two sets, one a corpus.
        sets={name: [[Path(str(place.sets[name][0])), one]] for name, one in sets.items()},
        config=place.config,
        cla={**place.cla, "data": across},
    )


def list_stand_ins(config: PaperConfig, published: PublishedTable) -> dict[str, str]:
    """Synthetic experiment => task: what stands in for experiments of a table that are not given,
    and what is given under the stand-in's name."""
    found = {}
    for row in published.rows:
        task = task_of(row.metric)
        name = (ACROSS if "-to-" in row.experiment else STAND_IN) + SUFFIX[task]
        is_needed = config.stand_in.enabled and row.experiment not in config.experiments
        if is_needed or name in config.experiments:
            found[name] = task
    return found


def list_places(config: PaperConfig) -> dict[str, ExperimentPlace]:
    """The experiments that are given, else the stand-in for action units and for emotions, where
    it may stand in: {} without it, and where it would have to be rendered by train=false.

    Raises CorpusError for shards of another corpus than an experiment's.
    """
    for name, place in config.experiments.items():
        check_corpora(config, name, place)
    if config.experiments or not config.stand_in.enabled:
        return dict(config.experiments)
    if not config.train and not (config.root / config.name / STAND_IN / RESULT_FILE).is_file():
        return {}
    return {
        STAND_IN + SUFFIX[task]: find_place(config, STAND_IN + SUFFIX[task], task)
        for task in ("au", "emotion")
    }


def measure(summary: Mapping[str, Any]) -> Measured:
    """A recorded setting in the paper's units: per unit pooled over a fold, then the mean over
    folds and seeds."""
    metric, mean = summary["metric"], summary["mean"]
    # The one "unit" of emotions is the accuracy itself.
    units = {name: one["value"] for name, one in summary["targets"].items() if name != metric}
    columns = {metric: {**units, MEAN: mean["value"]}}
    for name, value in summary["others"].items():
        columns[name] = {**summary["other_targets"][name], MEAN: value}
    values = {
        name: {column: scale_of(name) * value for column, value in found.items()}
        for name, found in columns.items()
    }
    scale = scale_of(metric)
    return Measured(values, (scale * mean["low"], scale * mean["high"]), dict(summary))


def scale_of(metric: str) -> float:
    """From 0..1 to what the paper prints."""
    return 100.0 if metric in PER_CENT else 1.0
