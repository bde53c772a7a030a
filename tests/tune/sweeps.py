"""Sweeps of seconds over the classifier of marked faces, for tests with and without Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus

from norface.config import load_config
from norface.tracking import read_facts, read_metrics
from tune.base import Base
from tune.channel import Reporter
from tune.config import SweepConfig
from tune.folder import Trial, read_trial, trial_folder, write_trial
from tune.process import TrialWatch
from tune.sweep import Sweep
from tune.trial import run_trial

PROJECT = Path(__file__).parents[2]
RATE, EXPERTS = "cla.optimizer.learning_rate", "cla.model.moe.experts"
VALUES = {RATE: 0.01, EXPERTS: 2}
BASE: dict[str, Any] = {
    "cla": {
        "units": [1, 12],
        "epochs": 3,
        "data": {"shards": ["shards"], "cache": True},
        "model": {
            "extractor": "conv",
            "conv": {"side": 16, "channels": [8, 8], "width": 16},
            "moe": {"top_k": 1},
        },
        "trainer": {"batch_per_rank": 8, "save_every_steps": 2},
        "backend": {"device": "cpu"},
    }
}
NETWORKS = [
    "normalizer.encoder={side: 64, patch: 8, width: 16, depth: 1, heads: 2}",
    "normalizer.merging={heads: 2, blocks: 1}",
    "normalizer.decoder={channels: [16, 8, 8, 8], convolutions: 1, upsampling: shuffle}",
    "discriminator.channels=[8, 8]",
    "losses={adv: 1, rec: 10, perc: null, id: null, lm: null, exp: null, eye: null}",
]
"F_nor of seconds, for faces of 64 pixels."
SWEEP: dict[str, Any] = {
    "name": "s",
    "stage": "cla",
    "base": "base.yaml",
    "folds": ["test=part1"],
    "space": {RATE: {"loguniform": [1e-3, 3e-2]}, EXPERTS: {"choice": [1, 2]}},
    "budget": {"trials": 3},
    "tracking": {"mlflow": False},
}


def write_workplace(folder: Path, **corpus: Any) -> Path:
    """A folder with shards, base.yaml and sweep.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder / "shards", **corpus)
    write_configs(folder)
    return folder


def write_configs(folder: Path) -> None:
    """base.yaml and sweep.yaml."""
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))


def start_search(
    workplace: Path, *words: str, module: str = "tune.search"
) -> subprocess.Popen[str]:
    """`python -m tune.search sweep.yaml WORDS` in the workplace."""
    return subprocess.Popen(
        [sys.executable, "-m", module, "sweep.yaml", *words],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_search(workplace: Path, *words: str, module: str = "tune.search") -> str:
    """The same, to its end, which must be good; returns what it printed."""
    process = start_search(workplace, *words, module=module)
    text = process.communicate(timeout=1200)[0]
    assert process.returncode == 0, text
    return text


def wait_until(condition, what: str, timeout_s: float = 600) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.1)


def steps_trained(trial: Path) -> int:
    """Evaluations that the stages of a trial have written."""
    return sum(
        any(name.startswith("validation/") for name in line)
        for metrics in trial.glob("run*/**/metrics.jsonl")
        for line in read_metrics(metrics.parent)
    )


def run_here(folder: Path, *overrides: str, stop_at: int | None = None) -> list[dict]:
    """Reports of a trial run in this process, in the current folder."""
    sweep = load_config(SweepConfig, "sweep.yaml", [f"root={folder}", *overrides])
    place = trial_folder(sweep.folder, 0)
    place.mkdir(parents=True, exist_ok=True)
    heard: list[dict] = []

    def listen(message: dict) -> bool:
        heard.append(message)
        return message["report"] == stop_at

    reporter = Reporter(listen)
    run_trial(sweep, Base(sweep), place, Trial(0, VALUES), reporter)
    reporter.flush()
    return heard


def begin(folder: Path, *overrides: str) -> tuple[Sweep, TrialWatch]:
    """A sweep's first trial, ready to be watched."""
    config = load_config(SweepConfig, "sweep.yaml", [f"root={folder}", *overrides])
    sweep = Sweep(config)
    with sweep.open():
        sweep.begin(0)
    place = trial_folder(sweep.folder, 0)
    trial = read_trial(place)
    trial.values = VALUES
    write_trial(place, trial)
    return sweep, TrialWatch({**sweep.spec(), "folder": str(place)})


def children(pid: int) -> list[int]:
    """Processes that a process has started and that run."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def finish(watch: TrialWatch) -> list[float]:
    """Objective of every report, to the end."""
    found = []
    while (event := watch.next()).kind == "report":
        found.append(event.metrics["objective"])
        watch.answer(stop=False)
    assert event.kind == "done", event
    return found


def mlflow_runs(workplace: Path, sweep: Path) -> list[tuple[str, str]]:
    """(trial, status) of every run below the sweep's in MLflow, by trial."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{workplace / 'runs' / 'mlflow.db'}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    parent = json.loads((sweep / "mlflow.json").read_text())["run_id"]
    ended = {"finished": "FINISHED", "stopped": "KILLED", "running": "RUNNING"}
    assert client.get_run(parent).info.status == ended[read_facts(sweep)["status"]]
    runs = client.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{parent}'")
    return sorted((run.data.tags["trial"], run.info.status) for run in runs)
