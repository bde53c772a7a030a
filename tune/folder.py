"""A sweep's folder, which is all that a sweep that goes on needs.

    ROOT/NAME/
        config.yaml  run.json  metrics.jsonl   the sweep, MLflow's parent run; best so far
        base.yaml                              what trials change, as it was when the sweep began
        trials/0007/trial.json                 number, values, state, value, seconds, error
        trials/0007/run.json metrics.jsonl     one line a report; one run of MLflow
        trials/0007/config.yaml  log.txt       what it ran; what it printed
        trials/0007/run0/                      the stage's own run folders
        best.yaml  report.html                 the winner's differences; the page
        ray/                                   Ray's own notes, never read again

States: running (or killed: it goes on), finished, stopped (by the scheduler), failed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from norface.errors import CheckpointError
from norface.tracking import (
    METRICS_FILE,
    Run,
    TrackingConfig,
    open_run,
    read_facts,
    read_metrics,
    replacing,
)

TRIAL_FILE, BASE_FILE, BEST_FILE, LOG_FILE = "trial.json", "base.yaml", "best.yaml", "log.txt"
STOPPED_FILE = "stopped"
TAKEN_FILE = "taken.jsonl"
"In a run folder: the reports that come with weights that were taken over, until they are moved."
ENDED = ("finished", "stopped", "failed")
OBJECTIVE = "objective"
"Name of the objective in a trial's metrics, whatever it measures."


@dataclass
class Trial:
    """One trial as trial.json says."""

    number: int
    values: dict[str, Any]
    "Key => value, of every key of the space."
    state: str = "running"
    value: float | None = None
    "The objective at the last report; None before the first, and where it is no number."
    reports: int = 0
    "Reports so far; for whole trials all of them."
    seconds: float = 0.0
    "Time that its processes ran."
    error: str = ""
    "Why it failed, in a line."
    generation: int = 0
    "How often it took over another trial's weights (pbt); the stage's runs lie in runN."
    node: str = ""
    "The machine that ran it last."
    history: list[dict[str, Any]] = field(default_factory=list)
    "Its values before each takeover."

    @property
    def ended(self) -> bool:
        """Whether it is never run again."""
        return self.state in ENDED

    @property
    def name(self) -> str:
        """0007."""
        return f"{self.number:04d}"


def trial_folder(sweep: Path, number: int) -> Path:
    """The folder of a trial."""
    return sweep / "trials" / f"{number:04d}"


def read_trial(folder: Path) -> Trial | None:
    """A trial from its folder; None where there is none (yet)."""
    try:
        trial = Trial(**json.loads((folder / TRIAL_FILE).read_text(encoding="utf-8")))
        if trial.state == "running" and (folder / STOPPED_FILE).exists():
            trial.state = "stopped"
        return trial
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{folder / TRIAL_FILE}: cannot be read ({error}); remove that trial's folder, and it"
            " is run again"
        ) from None


def write_trial(folder: Path, trial: Trial) -> None:
    """Replace a trial's file."""
    with replacing(folder / TRIAL_FILE) as aside:
        aside.write_text(json.dumps(asdict(trial), indent=1) + "\n", encoding="utf-8")


def mark_stopped(folder: Path) -> None:
    """The scheduler wants no more of a trial. A file of its own: its watcher, maybe on another
    node, may be writing trial.json at this moment."""
    (folder / STOPPED_FILE).touch()


def list_trials(sweep: Path) -> list[Trial]:
    """All trials that were begun, by number."""
    found = (read_trial(path) for path in sorted((sweep / "trials").glob("[0-9]*")))
    return [trial for trial in found if trial is not None]


def begin_trial(
    sweep: Path, trial: Trial, *, tracking: TrackingConfig, config: Any, tags: Mapping[str, str]
) -> None:
    """Make the folder of a trial, and the run that stands for it in MLflow, or go on with them.

    `tracking` is that of a child of the sweep's run.
    """
    folder = trial_folder(sweep, trial.number)
    shown = {"trial": trial.name, **tags}
    open_run(folder, kind="trial", tracking=tracking, root=sweep.parent, config=config, tags=shown)
    write_trial(folder, trial)


def reports_of(folder: Path) -> list[dict[str, Any]]:
    """A trial's reports so far: {"step": number of the report, "objective": ..., ...}."""
    return [line for line in read_metrics(folder) if OBJECTIVE in line]


def take_over(folder: Path, trial: Trial, metrics: Path) -> None:
    """Note a trial that has another's weights in its newest run folder, with the other's reports.

    trial.json is what counts: killed before it nothing has happened, after it `catch_up` ends it.
    """
    taken = folder / f"run{trial.generation}" / TAKEN_FILE
    with replacing(taken) as aside:
        shutil.copyfile(metrics, aside)
    write_trial(folder, trial)
    catch_up(folder)


def catch_up(folder: Path) -> Trial:
    """The trial of a folder, its files made to agree where a process was killed between two."""
    trial = read_trial(folder)
    assert trial is not None, folder
    taken = folder / f"run{trial.generation}" / TAKEN_FILE
    if taken.exists():
        os.replace(taken, folder / METRICS_FILE)
    last = max(reports_of(folder), key=lambda line: line["step"], default=None)
    if last is not None and last["step"] > trial.reports:
        trial.reports, trial.value = last["step"], last[OBJECTIVE]
        write_trial(folder, trial)
    metrics = folder / METRICS_FILE
    if metrics.exists() and not metrics.read_bytes().endswith(b"\n"):
        # The next line would become part of the half one.
        Run(folder, TrackingConfig(mlflow=False), None).cut_back(trial.reports)
    return trial


def end_run(folder: Path, status: str, step: int) -> None:
    """Note in run.json how a trial ended (finished, stopped, failed)."""
    if read_facts(folder):
        Run(folder, TrackingConfig(mlflow=False), None).finish(status, step)


def best_trial(trials: Sequence[Trial], mode: str) -> Trial | None:
    """The best of those that ran to their end; of equal ones the first. None without any."""
    whole = [trial for trial in trials if trial.state == "finished" and trial.value is not None]
    sign = 1 if mode == "max" else -1
    return max(whole, key=lambda trial: (sign * (trial.value or 0), -trial.number), default=None)


@contextlib.contextmanager
def holding(path: Path, message: str) -> Iterator[None]:
    """An exclusive lock on a file while the block runs; CheckpointError where another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CheckpointError(message) from None
        yield
