"""Settings of the pipeline: its steps, and what each asks the cluster for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from launchers.cluster import ClusterConfig
from norface.config import Config, build_config, flatten, lay_over
from norface.errors import ConfigError

C = TypeVar("C", bound=Config)
STEPS = ("prepare", "pretrain", "finetune", "normalize", "classify", "summary")
SHARED = ("modules", "exports", "container", "container_runtime", "mounts")
"Settings of a cluster that cannot differ from step to step."


class PrepareStep(Config):
    """One corpus to align: `norface prepare CORPUS ROOT OUT OPTIONS`."""

    corpus: str
    "Layout of `root`: disfa, celeba, folder ..."
    root: Path
    "The corpus as it was handed out."
    out: Path
    "Folder of the shards."
    options: list[str] = []
    "More words for norface prepare: key=value, --side, 64 ..."
    jobs: int = Field(1, gt=0)
    "Jobs that share the work."


class TrainStep(Config):
    """A config file of `norface train nor` or `norface crossval`, and what differs from it."""

    config: Path | None = None
    "The yaml; null = the defaults."
    settings: dict[str, Any] = {}
    "key.sub: value, over the file."


class NormalizeStep(Config):
    """How every face is normalized."""

    target_key: str | dict[str, str] | None = None
    "Key of the target picture in `target_shards`; or fold: key, where a target is in the corpus."
    target_image: Path | None = None
    "Or an aligned square picture file."
    target_shards: Path | None = None
    "Shards that hold the target; null = the corpus."
    check_target: bool = True
    "Refuse a target without a face or with an active action unit (`norface targets check`)."
    batch: int = Field(32, gt=0)
    "Faces that go through the generator together."
    jobs: int = Field(1, gt=0)
    "Jobs that share the work of a fold."


class PipelineConfig(Config):
    """What `python -m launchers.pipeline` reads."""

    name: str = "pipeline"
    "Everything lies below ROOT/NAME."
    root: Path = Path("runs")
    "Folder that holds the run folders."
    prepare: dict[str, PrepareStep] = {}
    "Name => a corpus to align; {} where all shards are there."
    pretrain: TrainStep | None = None
    "F_nor's pre-training; null where finetune.settings has a generator."
    finetune: TrainStep = TrainStep()
    "F_nor's fine-tuning; fold, generator and (where not set) data.shards are set here."
    normalize: NormalizeStep = NormalizeStep()
    crossval: TrainStep
    "The folds, F_cla and the settings to compare; the setting `norface` is added where it is not."
    cluster: dict[str, dict[str, Any]] = {}
    "Step (prepare, pretrain, finetune, normalize, classify, summary) => what it asks for."

    @property
    def folder(self) -> Path:
        """ROOT/NAME."""
        return self.root / self.name


def load_step(schema: type[C], step: TrainStep, where: str, **fixed: Any) -> C:
    """The config of the step that is written below the key `where`. Raises ConfigError."""
    changes = flatten(step.settings) | flatten(fixed)
    return lay_over(schema, step.config, changes.items(), under=f"{where}.settings")


def read_resources(config: PipelineConfig, cluster: ClusterConfig) -> dict[str, ClusterConfig]:
    """Kind of step => the cluster's settings with the step's own over them.

    Aligning and summing up are one process on CPUs, normalizing is one on a GPU where there are
    GPUs, a fold is on one node; the rest is as the cluster's file says.
    """
    base = cluster.model_dump(mode="json")
    one = {"nodes": 1, "ranks_per_node": 1, "gpus_per_node": 0}
    own: dict[str, dict[str, Any]] = {kind: {} for kind in STEPS}
    own |= {"prepare": one, "summary": one, "classify": {"nodes": 1}}
    own["normalize"] = {**one, "gpus_per_node": min(1, cluster.gpus_per_node)}
    for kind, values in config.cluster.items():
        if kind not in STEPS:
            raise ConfigError(f"cluster: found '{kind}'; there are: {', '.join(STEPS)}")
        if shared := [name for name in SHARED if name in values]:
            raise ConfigError(
                f"cluster.{kind}.{shared[0]}: is one for all steps; set it in the cluster's file"
            )
        own[kind] = {**own[kind], **values}
    return {
        kind: build_config(ClusterConfig, {**base, **own[kind]}, under=f"cluster.{kind}")
        for kind in STEPS
    }
