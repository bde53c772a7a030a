"""Sweeps of seconds over the classifier of marked faces, for tests with and without Ray."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus

from norface.tracking import read_metrics

PROJECT = Path(__file__).parents[2]
RATE, EXPERTS = "cla.optimizer.learning_rate", "cla.model.moe.experts"
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
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    return folder


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
