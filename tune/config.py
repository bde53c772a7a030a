"""Settings of a sweep: what runs, what is changed, what is wanted, and what it may cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from norface.config import Config, Misfit, flatten
from norface.critics.base import CriticsConfig
from norface.evaluation.unit_readers import ReaderName
from norface.tracking import TrackingConfig
from tune.space import Parameter, drawn_keys, grid_cells, read_space

TARGET = "target"
"The key of the space that is no config key: the target picture that a trial normalizes with."


class ObjectiveConfig(Config):
    """What the sweep is after; always measured on validation subjects."""

    metric: str | None = None
    """A name of validation/NAME; null = the task's own (f1, icc or accuracy) for stage cla, score
    for stage nor."""
    mode: Literal["max", "min"] = "max"
    "Whether more or less of it is better."


class BudgetConfig(Config):
    """What the sweep may cost."""

    trials: int | None = Field(None, gt=0)
    "Trials in all; null = one for each cell of the grid."
    images: int | None = Field(None, gt=0)
    "Pictures that a trial of stage nor trains on; null = as the base config says."
    epochs: int | None = Field(None, gt=0)
    "Epochs of each fold of a trial of stage cla; null = as the base config says."
    reports: int = Field(10, gt=0)
    "How often a trial of stage nor is measured; stage cla is measured after every epoch."


class ResourcesConfig(Config):
    """What one trial occupies. With Ray, trials run at once as far as the machines reach."""

    processes: int = Field(1, gt=0)
    "Ranks of a trial on each of its nodes."
    cpus: float = Field(1, gt=0)
    "CPUs of a rank."
    gpus: float = Field(0, ge=0)
    "GPUs of a rank; 0.5 lets two trials share one."
    nodes: int = Field(1, gt=0)
    "Machines of a trial."
    at_once: int | None = Field(None, gt=0)
    "Most trials at once; null = as many as fit."
    retries: int = Field(3, ge=0)
    "How often a trial is started again whose process or node died; it goes on where it was."

    @property
    def world_size(self) -> int:
        """Ranks of a trial."""
        return self.processes * self.nodes


class SearchConfig(Config):
    """How values are chosen."""

    kind: Literal["random", "tpe"] = "random"
    "random, or Optuna's tree of Parzen estimators, which learns from the trials before."
    startup: int = Field(8, gt=0)
    "Trials that tpe draws at random first."


class NoScheduler(Config):
    """Every trial runs to its end."""

    kind: Literal["none"] = "none"


class AshaConfig(Config):
    """Asynchronous successive halving: what lags behind the others at a rung is stopped."""

    kind: Literal["asha"]
    grace: int = Field(1, gt=0)
    "Reports before a trial can be stopped: the first rung."
    factor: float = Field(3, gt=1)
    "The best 1/factor of a rung go on to the next, which is factor times as far."


class PbtConfig(Config):
    """Population-based training: all trials train at once; a bad one takes over the weights of a
    good one and changes its values. For keys that change no tensor's shape."""

    kind: Literal["pbt"]
    every: int = Field(1, gt=0)
    "Reports between two takeovers."
    share: float = Field(0.25, gt=0, le=0.5)
    "Share of the population that counts as bad, and as good."
    resample: float = Field(0.25, ge=0, le=1)
    "Probability that a value is drawn anew instead of multiplied by 1.2 or 0.8."
    synch: bool = False
    """Trials that are ahead wait for the others before a takeover, so that all are compared after
    as many reports; without, a fast trial may end before a slow one was ever compared with it."""


SchedulerConfig = Annotated[NoScheduler | AshaConfig | PbtConfig, Field(discriminator="kind")]


class NormalizeChoice(Config):
    """For sweeps over target faces: the faces are normalized with each before its trial."""

    generator: Path
    "generator.safetensors; {fold} stands for the fold's name."
    shards: Path
    "Folder of shards to normalize: those of cla.data.shards."
    target_shards: Path | None = None
    """Shards that hold the candidate pictures; null = `shards`. A person whom any fold tests is
    refused, so that candidates for a whole corpus come from another one."""
    out: Path = Path("normalized")
    "Sets are written to OUT/TARGET/GENERATOR, and found there by the next sweep."
    reader: ReaderName | None = "auto"
    """Who looks whether a candidate shows an active unit, beside its labels (norface.targets): auto
    = MediaPipe at photographs, nobody at synthetic faces, whose labels are exact; packaged or
    mediapipe = that one at every face; null = labels alone."""


JUDGE = "judge-{}.safetensors"


class MeasureConfig(Config):
    """How a trial of stage nor is judged: its averaged generator on validation faces."""

    shards: Path | None = None
    "Shards with the faces to normalize; null = the training shards, with `subjects` or `folds`."
    subjects: list[str] | None = None
    "Validation subjects among them, each written corpus/subject."
    folds: str | None = None
    "Or: the validation subjects of a fold of this list (as cla.data.folds); `drawn` = equal parts."
    fold: str = "test=part1"
    "Which fold's."
    validation_share: float = Field(0.15, gt=0, lt=1)
    "Share of a fold's train subjects that are its validation subjects."
    faces: int = Field(256, gt=0)
    "At most so many pictures, spread evenly."
    target: str | None = None
    "Key of the target picture among the training shards; null = the first candidate target."
    critics: CriticsConfig | None = None
    """Who judges: identity and expression. null = the packaged judges of synthetic faces, which no
    loss ever asks; on photographs name critics, best others than those of the losses."""


class SweepConfig(Config):
    """Settings of `python -m tune.search` and `python -m tune.array`."""

    name: str = "sweep"
    "Name of the sweep: its folder is ROOT/NAME."
    root: Path = Path("runs")
    "Folder that holds the run folders."
    stage: Literal["nor", "cla"]
    """nor = trains F_nor and measures its faces; cla = trains F_cla on folds of a cross-validation
    and takes the mean over their validation subjects."""
    base: Path
    "What is changed: a config of `norface train nor`, or of `norface crossval` for stage cla."
    changes: dict[str, Any] = {}
    "Differences from it in every trial, by key."
    setting: str | None = None
    "Stage cla: which of the base's settings; null = the only one."
    folds: list[str] | None = None
    "Stage cla: folds whose validation subjects count; null = all."
    space: dict[str, Parameter] = Field(min_length=1)
    "Key => its values; see tune/space.py. `target` is a key where `normalize` is set."
    objective: ObjectiveConfig = ObjectiveConfig()
    budget: BudgetConfig = BudgetConfig()
    resources: ResourcesConfig = ResourcesConfig()
    search: SearchConfig = SearchConfig()
    scheduler: SchedulerConfig = NoScheduler()
    seed: int = Field(0, ge=0)
    "Of what is drawn. The trials' own seed is the base's."
    normalize: NormalizeChoice | None = None
    measure: MeasureConfig = MeasureConfig()
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("space", mode="before")
    @classmethod
    def _read_space(cls, space: Any) -> Any:
        return read_space(space)

    @field_validator("changes", mode="before")
    @classmethod
    def _read_changes(cls, changes: Any) -> Any:
        return flatten(changes) if isinstance(changes, Mapping) else changes

    @field_validator("search", "scheduler", mode="before")
    @classmethod
    def _read_short_form(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _check_parts(self) -> SweepConfig:
        drawn = drawn_keys(self.space)
        if self.budget.trials is None and drawn:
            raise Misfit(
                f"'.budget.trials' must be set: '.space.{drawn[0]}' is drawn, not gone through"
            )
        if self.search.kind == "tpe" and len(drawn) < len(self.space):
            raise Misfit("'.search' tpe chooses all values itself; write choice instead of grid")
        if (TARGET in self.space) != (self.normalize is not None):
            raise Misfit("'.space.target' and '.normalize' belong together; set both or neither")
        if self.scheduler.kind == "pbt" and self.search.kind == "tpe":
            raise Misfit("'.scheduler' pbt changes values itself; use '.search' random with it")
        if self.scheduler.kind == "pbt" and self.folds is None and self.stage == "cla":
            raise Misfit("'.scheduler' pbt needs one fold: set '.folds' to a list of one")
        if self.scheduler.kind == "pbt" and self.normalize is not None:
            raise Misfit("'.scheduler' pbt cannot change the target of faces; use asha or none")
        return self

    @property
    def folder(self) -> Path:
        """ROOT/NAME."""
        return self.root / self.name

    @property
    def trials(self) -> int:
        """Trials in all."""
        return self.budget.trials or len(grid_cells(self.space))
