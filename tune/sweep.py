"""A sweep as whoever drives it sees it: prepare, begin a trial, end a trial, sum up."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import math
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from norface.config import flatten, load_config, read_yaml, save_config
from norface.errors import CheckpointError, ConfigError
from norface.tracking import CONFIG_FILE, Run, open_run, read_facts, replacing
from tune.base import Base
from tune.config import TARGET, SweepConfig
from tune.feeding import SweepFeeder
from tune.folder import (
    BASE_FILE,
    Trial,
    begin_trial,
    best_trial,
    end_run,
    holding,
    list_trials,
    mark_stopped,
    read_trial,
    trial_folder,
    write_trial,
)
from tune.space import Parameter
from tune.study import Study
from tune.winner import write_best

FREE_KEYS = ("name", "root", "tracking.*", "resources.*", "budget.trials", "base")
"Keys that may change between two starts: they move no trial."
REFUSED_FILE = "refused.json"
AT_REST = "name faces at rest (`norface targets choose` finds some)"


class Sweep:
    """One sweep; `open` it, then `begin` and `end` its trials. Not for several threads at once."""

    def __init__(self, config: SweepConfig, base: dict[str, Any] | None = None):
        """`base`: the base config's values, of a sweep that was prepared; None = as it is now."""
        self.base = Base(config, base)
        self.base.check_space()
        self.refused: dict[str, str] = {}
        if config.normalize is not None:
            config = self._drop_candidates(config)
        self.config, self.folder = config, config.folder
        self.folds = self.base.folds() if config.stage == "cla" else [""]
        self.reports = self.base.reports(len(self.folds))
        self.lock = threading.Lock()
        self.run: Run | None = None
        self.joined = False

    def _drop_candidates(self, config: SweepConfig) -> SweepConfig:
        """Without the targets that show an expression, or are tested. Raises ConfigError."""
        from tune.candidates import refuse_active, refuse_tested

        assert config.normalize is not None
        keys = [str(key) for key in config.space[TARGET].values]
        self.refused = refuse_tested(self.base, config.normalize, keys)
        rest = [key for key in keys if key not in self.refused]
        active = refuse_active(config.normalize, rest)
        self.refused |= {key: f"{why}; {AT_REST}" for key, why in active.items()}
        kept = [key for key in keys if key not in self.refused]
        if not kept:
            key, why = next(iter(self.refused.items()))
            raise ConfigError(
                f"space.target: all {len(keys)} candidates are refused, first {key}: {why}"
            )
        parameter = Parameter(kind=config.space[TARGET].kind, values=kept)
        return config.model_copy(update={"space": {**config.space, TARGET: parameter}})

    @contextlib.contextmanager
    def open(self, rest: str = "stopped") -> Iterator[Run]:
        """The sweep's run, alone in its folder. Raises CheckpointError for another sweep's.

        `rest`: its status after a block that ends well, where trials are left.
        """
        busy = f"{self.folder}: this sweep is being searched already; wait, or choose another name="
        with holding(self.folder / ".lock", busy):
            self.claim()
            # The feeder leaves last: it tells the store how the sweep ended.
            with (
                SweepFeeder(self.folder, self.config.tracking),
                contextlib.ExitStack() as stack,
            ):
                self.run = stack.enter_context(
                    open_run(
                        self.folder,
                        kind="sweep",
                        tracking=self.config.tracking.model_copy(update={"mlflow": False}),
                        root=self.config.root,
                        config=self.config,
                        tags={"stage": self.config.stage, "metric": self.base.metric},
                    )
                )
                self.study = Study(self.config)
                for trial in list_trials(self.folder):
                    self.study.remember(trial)
                    folder = trial_folder(self.folder, trial.number)
                    if trial.ended and read_facts(folder).get("status") == "running":
                        # The driver was killed between the trial's end and its note.
                        end_run(folder, trial.state, trial.reports)
                yield self.run
                if self.numbers():
                    stack.pop_all()
                    self.run.finish(rest)

    def join(self, study: Study) -> None:
        """Take part in a sweep that another process opened: one job of several."""
        self.study, self.joined = study, True
        self.run = Run(self.folder, self.config.tracking, None)

    def claim(self) -> None:
        """Write config and base into the folder, or find the same there."""
        saved = self.folder / CONFIG_FILE
        base_text = yaml.safe_dump(json.loads(json.dumps(self.base.values, default=str)))
        if saved.exists():
            before = flatten(read_yaml(saved))
            now = flatten(self.config.model_dump(mode="json"))
            for key in sorted(before.keys() | now.keys()):
                free = any(fnmatch.fnmatch(key, pattern) for pattern in FREE_KEYS)
                if not free and before.get(key) != now.get(key):
                    raise CheckpointError(
                        f"{self.folder} belongs to another sweep: {key} was {before.get(key)!r}, is"
                        f" {now.get(key)!r} now; choose another name= or remove that folder"
                    )
            if (self.folder / BASE_FILE).read_text(encoding="utf-8") != base_text:
                raise CheckpointError(
                    f"{self.folder} belongs to another base: {self.base.path} or `changes` has"
                    " changed since; choose another name= or remove that folder"
                )
        with replacing(self.folder / BASE_FILE) as aside:
            aside.write_text(base_text, encoding="utf-8")
        for key, why in self.refused.items() if not saved.exists() else ():
            print(f"space.target: {key} is refused: {why}", file=sys.stderr, flush=True)
        # Jobs are handed the candidates that are left, and refuse none of them.
        if self.refused or not (self.folder / REFUSED_FILE).exists():
            with replacing(self.folder / REFUSED_FILE) as aside:
                aside.write_text(json.dumps(self.refused, indent=1) + "\n", encoding="utf-8")
        with replacing(saved) as aside:
            save_config(self.config, aside)

    def numbers(self, *, whole: bool = False) -> list[int]:
        """Trials to run, in order; with `whole`, those that ended too."""
        ended = {trial.number for trial in list_trials(self.folder) if trial.ended}
        return [n for n in range(self.config.trials) if whole or n not in ended]

    def begin(self, number: int) -> Trial:
        """The trial of a number, begun before or drawn now."""
        with self.lock:
            folder = trial_folder(self.folder, number)
            trial = read_trial(folder)
            if trial is None:
                trial = Trial(number, self.study.propose(number, self.base.fits))
            else:
                self.study.remember(trial)
            if trial.ended:
                return trial
            assert self.run is not None
            config = self.base.trial_config(trial.values, folder, "run0")
            tracking = self.config.tracking.model_copy(update={"parent_run": self.run.id})
            tags = {"sweep": self.config.name, "stage": self.config.stage}
            begin_trial(self.folder, trial, tracking=tracking, config=config, tags=tags)
            return trial

    def end(self, number: int, *, died: bool = False) -> Trial:
        """Note how a trial ended: as its process said, or stopped by the scheduler."""
        with self.lock:
            folder = trial_folder(self.folder, number)
            trial = read_trial(folder)
            assert trial is not None, folder
            if died and not trial.ended:
                trial.state = "failed"
                trial.error = "its node or its process died again and again; see log.txt beside"
                write_trial(folder, trial)
            elif not trial.ended:
                mark_stopped(folder)
                trial.state = "stopped"
            if read_facts(folder).get("status") == "running":
                end_run(folder, trial.state, trial.reports)
                self.study.tell(trial)
                self._note(trial)
            return trial

    def _note(self, trial: Trial) -> None:
        """A line for the log, and the best so far into the sweep's metrics."""
        trials = list_trials(self.folder)
        ended = [one for one in trials if one.ended]
        best = best_trial(trials, self.config.objective.mode)
        shown = ", ".join(f"{k.rpartition('.')[2]} {show(v)}" for k, v in trial.values.items())
        value = trial.error or f"{self.base.metric} {show(trial.value)}"
        print(
            f"trial {trial.name} {trial.state} ({len(ended)} of {self.config.trials}): {value}"
            f"  [{shown}]" + (f"  best: {best.name}, {show(best.value)}" if best else ""),
            flush=True,
        )
        if not self.joined and self.run and best is not None and best.value is not None:
            values = {"best": best.value, "best_trial": best.number}
            self.run.log(values, step=len(ended))

    def interrupted(self) -> None:
        """Nothing runs any more: trials that go on later are KILLED until they do."""
        for trial in list_trials(self.folder):
            folder = trial_folder(self.folder, trial.number)
            if not trial.ended and read_facts(folder).get("status") == "running":
                end_run(folder, "stopped", trial.reports)

    def sum_up(self) -> Path | None:
        """Write best.yaml and the report; print the winner and what to do with it."""
        from tune.report import write_report

        trials = list_trials(self.folder)
        best = best_trial(trials, self.config.objective.mode)
        page = write_report(self.folder)
        if best is None:
            print(f"no trial was finished; see {self.folder / 'trials'}", flush=True)
            return None
        path, command = write_best(self.base, best)
        print(
            f"\nbest: trial {best.name}, {self.base.metric} {show(best.value)} on validation"
            f" subjects\n  {path}\n  {page}\nretrain it in full:\n  {command}",
            flush=True,
        )
        return path

    def spec(self) -> dict[str, Any]:
        """What TrialWatch must know of every trial."""
        resources = self.config.resources
        chooser = self.base.main_metric if self.config.stage == "cla" else None
        return {
            "sweep": str(self.folder.absolute()),
            "cwd": os.getcwd(),
            "metric": self.base.metric,
            "chooser": chooser,
            "processes": resources.processes,
            "cpus": resources.cpus,
            "gpus": resources.gpus,
            "nodes": resources.nodes,
            "retries": resources.retries,
            "reports": self.reports,
            "replay": self.config.scheduler.kind != "pbt",
        }


def show(value: Any) -> str:
    """A value in a few characters."""
    if isinstance(value, float):
        return "none" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def load_sweep(path: str | Path, overrides: list[str]) -> SweepConfig:
    """A sweep's settings from a yaml and key=value."""
    config = load_config(SweepConfig, path, overrides)
    if config.resources.nodes > 1 and config.scheduler.kind == "pbt":
        raise ConfigError("scheduler pbt is for trials of one node; set resources.nodes=1")
    return config


def describe_space(space: Mapping[str, Parameter]) -> list[str]:
    """Lines of the space for the terminal."""
    width = max(map(len, space))
    return [f"  {key:<{width}}  {parameter}" for key, parameter in space.items()]
