"""The steps of the whole way as a graph: which jobs there are, what each waits for and leaves.

    prepare:CORPUS (array) -> pretrain
    pretrain -> finetune:FOLD -> normalize:FOLD (array) -> classify:FOLD (array)     fold by fold
    all classify:FOLD, done or failed -> summary

With `protocol: paper` F_nor is fine-tuned once, on everybody, and all folds share its pictures.
What is done is read from what the steps leave on disk, so a graph knows nothing of Slurm.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launchers.cluster import ClusterConfig
from launchers.pipeline_config import PipelineConfig, PrepareStep, load_step, read_resources
from norface.cli.normalize import NormalizeConfig
from norface.config import Config, flatten
from norface.data.shards import INDEX_NAME
from norface.errors import ConfigError
from norface.evaluation.collecting import PREDICTIONS_FILE, RESULT_FILE
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, list_folds
from norface.tracking import read_facts
from norface.training.stages.cla_folds import name_folds
from norface.training.stages.nor_config import NorConfig

GENERATOR = "generator.safetensors"


@dataclasses.dataclass(frozen=True)
class Step:
    """One job, or one array of jobs."""

    name: str
    "prepare:disfa, finetune:test=part1 ..."
    script: str
    "File in slurm/."
    words: tuple[str, ...]
    "The script's words; {NAME} of a file in `files` stands for its place in the snapshot."
    after: tuple[str, ...]
    "Names of the steps that it waits for."
    done: Callable[[], bool]
    "Whether what it makes is there."
    leaves: Path
    "What it makes."
    jobs: int = 1
    "Tasks of the array; 1 = no array."
    whatever: bool = False
    "Whether it also runs when a step before it has failed."
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """prepare, pretrain ..."""
        return self.name.partition(":")[0]


@dataclasses.dataclass(frozen=True)
class Graph:
    """Steps in an order in which each comes after those it waits for, and their configs."""

    steps: list[Step]
    files: dict[str, Config]
    "File name => the config that a step reads."
    resources: dict[str, ClusterConfig]
    "Kind of step => what it asks the cluster for."


def build_graph(config: PipelineConfig, cluster: ClusterConfig) -> Graph:
    """All steps, those that are done too. Raises NorfaceError before anything is queued."""
    folder = config.folder
    resources = read_resources(config, cluster)
    crossval = load_crossval(config)
    folds = fold_names(crossval)
    files: dict[str, Config] = {"crossval.yaml": crossval}
    steps = [prepare_step(name, one) for name, one in config.prepare.items()]
    ready = tuple(step.name for step in steps)
    generator = config.finetune.settings.get("generator")
    if config.pretrain is not None:
        pretrain = load_step(NorConfig, config.pretrain, "pretrain", **place(config, "pretrain"))
        files["pretrain.yaml"] = pretrain
        steps.append(train_step("pretrain", "pretrain_nor.sh", "pretrain.yaml", ready, pretrain))
        ready, generator = ("pretrain",), folder / "pretrain" / GENERATOR
    if generator is None:
        raise ConfigError("pretrain: null, so finetune.settings must name a generator")
    paper = crossval.cla.data.protocol == "paper"
    normalized: dict[str, tuple[str, ...]] = {}
    for number, fold in enumerate(["all"] if paper else folds, 1):
        nor = finetune_config(config, crossval, str(generator), None if paper else fold)
        name, file = f"finetune:{fold}", f"finetune-{number}.yaml"
        files[file] = nor
        steps.append(train_step(name, "finetune_nor.sh", file, ready, nor))
        made = normalize_steps(config, crossval, fold, number, files, name)
        steps += made
        normalized[fold] = tuple(step.name for step in made)
    for fold in folds:
        steps.append(classify_step(crossval, fold, normalized["all" if paper else fold]))
    steps.append(
        Step(
            "summary", "crossval.sh", ("{crossval.yaml}",),
            tuple(f"classify:{fold}" for fold in folds),
            lambda: (crossval.folder / RESULT_FILE).is_file(), crossval.folder / RESULT_FILE,
            whatever=True, environment={"NORFACE_CROSSVAL": "summary"},
        )
    )  # fmt: skip
    return Graph(steps, files, resources)


def place(config: PipelineConfig, *parts: str) -> dict[str, Any]:
    """Name and root of a run below ROOT/NAME."""
    return {"name": "/".join((config.name, *parts)), "root": config.root}


def load_crossval(config: PipelineConfig) -> CrossvalConfig:
    """The cross-validation, its folder and the setting `norface` set."""
    fixed = place(config, "crossval")
    crossval = load_step(CrossvalConfig, config.crossval, "crossval", **fixed)
    if crossval.part is not None or crossval.only is not None:
        raise ConfigError("crossval: part and only are set by the pipeline; leave them out")
    if "norface" in crossval.settings:
        return crossval
    inner = "all" if crossval.cla.data.protocol == "paper" else "{fold}"
    sources = range(1, len(crossval.cla.data.shards) + 1)
    base = config.folder / "normalized" / inner
    sets = [str(base / str(number) / "*" / "*") for number in sources]
    # With several folders of shards one stream is made of as many sets.
    norface = {"normalized": [sets if len(sets) > 1 else sets[0]]}
    settings = crossval.model_dump(mode="json", exclude_unset=True).get("settings")
    fixed["settings"] = {**(settings or {"without": {}}), "norface": norface}
    values = {**crossval.model_dump(mode="json", exclude_unset=True), **fixed}
    values["root"] = str(config.root)
    return CrossvalConfig.model_validate(values)


def fold_names(crossval: CrossvalConfig) -> list[str]:
    """Names of the folds, from the config alone where the shards are not there yet."""
    data = crossval.cla.data
    names = name_folds(data)
    if all(Path(str(shards), INDEX_NAME).is_file() for shards in data.shards):
        return list_folds(crossval)
    if names is None:
        raise ConfigError(
            "crossval.cla.data.folds=corpora: its folds are those of the shards; prepare them first"
        )
    return names


def prepare_step(name: str, step: PrepareStep) -> Step:
    """The array that aligns a corpus."""
    return Step(
        f"prepare:{name}", "prepare.sh",
        (step.corpus, str(step.root), str(step.out), *step.options), (),
        lambda: (step.out / INDEX_NAME).is_file(), step.out, jobs=step.jobs,
    )  # fmt: skip


def train_step(
    name: str, script: str, file: str, after: tuple[str, ...], config: NorConfig
) -> Step:
    """A training of F_nor."""
    run = config.root / config.name
    done = lambda: read_facts(run).get("status") == "finished" and (run / GENERATOR).is_file()
    return Step(name, script, (f"{{{file}}}",), after, done, run)


def finetune_config(
    config: PipelineConfig, crossval: CrossvalConfig, generator: str, fold: str | None
) -> NorConfig:
    """F_nor on the train subjects of a fold, or with None on everybody."""
    data = crossval.cla.data
    fixed: dict[str, Any] = place(config, "finetune", fold or "all")
    fixed["generator"] = generator
    if "data.shards" not in flatten(config.finetune.settings):
        fixed["data"] = {"shards": [str(one) for one in data.shards]}
    if "MLFLOW_TRACKING_URI" not in os.environ:
        # Folds on several machines must not write one sqlite file at once.
        fixed["tracking"] = {"mlflow": False}
    fixed["fold"] = None
    if fold is not None:
        names = ("folds", "train_corpora", "parts", "validation_share", "seed")
        fixed["fold"] = {**{name: getattr(data, name) for name in names}, "fold": fold}
    return load_step(NorConfig, config.finetune, "finetune", **fixed)


def normalize_steps(
    config: PipelineConfig,
    crossval: CrossvalConfig,
    fold: str,
    number: int,
    files: dict[str, Config],
    after: str,
) -> list[Step]:
    """An array for each folder of shards; adds their configs to `files`."""
    step, steps = config.normalize, []
    key = step.target_key
    if isinstance(key, dict):
        if fold not in key:
            raise ConfigError(f"normalize.target_key: no target for the fold '{fold}'")
        key = key[fold]
    if (key is None) == (step.target_image is None):
        raise ConfigError("normalize: set exactly one of target_key and target_image")
    sources = crossval.cla.data.shards
    for place_number, source in enumerate(sources, 1):
        out = config.folder / "normalized" / fold / str(place_number)
        file = f"normalize-{number}-{place_number}.yaml"
        files[file] = NormalizeConfig(
            generator=config.folder / "finetune" / fold / GENERATOR,
            source=Path(str(source)), out=out, target_key=key, target_image=step.target_image,
            target_shards=step.target_shards, check_target=step.check_target, batch=step.batch,
        )  # fmt: skip
        name = f"normalize:{fold}" + (f":{place_number}" if len(sources) > 1 else "")
        steps.append(
            Step(
                name, "normalize.sh", (f"{{{file}}}",), (after,),
                functools.partial(has_set, out), out, jobs=step.jobs,
            )
        )  # fmt: skip
    return steps


def has_set(out: Path) -> bool:
    """Whether a normalized set below OUT/TARGET/GENERATOR is whole."""
    return any(out.glob(f"*/*/{INDEX_NAME}"))


def classify_step(crossval: CrossvalConfig, fold: str, after: tuple[str, ...]) -> Step:
    """The array that trains F_cla on one fold: a task a setting and seed."""
    tasks = [FoldTask(one, seed, fold) for one in crossval.settings for seed in crossval.seeds]
    places = [crossval.folder / task.name / PREDICTIONS_FILE for task in tasks]
    return Step(
        f"classify:{fold}", "crossval.sh", ("{crossval.yaml}", f"only=[{fold}]"), after,
        lambda: all(path.is_file() for path in places), crossval.folder,
        jobs=len(tasks), environment={"NORFACE_CROSSVAL": "fold"},
    )  # fmt: skip
