"""The folder of a run: config, git revision, metrics, pictures. MLflow is fed from it.

    with open_run(Path("runs/demo"), kind="crossval", tracking=TrackingConfig()) as run:
        child_config = config.model_copy(update={"tracking": run.child_tracking()})
        run.log({"f1": 0.61}, step=0)
        run.log_image("faces", pixels, step=0)

Nothing here waits for a tracking server: everything is a file first, and a thread (or later
`norface track sync`) brings MLflow up to date. A run is used on one rank only.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from norface import __version__
from norface.config import Config, config_hash, save_config
from norface.errors import CheckpointError
from norface.metric_lines import append_line, read_lines
from norface.system_metrics import SYSTEM_FILE, SystemMonitor

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from norface.mlflow_feed import FeedThread

RUN_FILE, CONFIG_FILE, METRICS_FILE = "run.json", "config.yaml", "metrics.jsonl"
ARTIFACTS = "artifacts"
RESERVED = ("step", "images", "time")
MEASURED = (
    *("time", "images_per_second", "data_wait_share", "save_share", "useful_flops_share"),
    *("memory_gb", "gpu_memory_gb"),
)
"Columns of metrics.jsonl that depend on the machine and the hour; all others come again exactly."


class TrackingConfig(Config):
    """Where metrics go besides the run's own metrics.jsonl."""

    mlflow: bool = True
    "Feed MLflow from rank 0."
    uri: str | None = None
    "Tracking server; null = MLFLOW_TRACKING_URI, else sqlite in ROOT/mlflow.db."
    experiment: str | None = None
    "Experiment; null = corpus and task (bp4d-au), below a parent the parent's."
    parent_run: str | None = None
    "The run that this one is a child of: the id in its run.json, or its MLflow id."
    tags: dict[str, str] = {}
    "Tags beside stage, fold, target, config hash and git revision."
    models: bool = True
    "Log final weights as models; false saves their space in MLflow's store."
    system_every_s: float = Field(10, ge=0)
    "Seconds between measures of processor, memory and devices of rank 0's machine; 0 = none."

    @field_validator("uri")
    @classmethod
    def _without_password(cls, uri: str | None) -> str | None:
        # A config is saved with every run and shown in MLflow itself.
        if uri is not None and re.search(r"//[^/@]+@", uri):
            raise ValueError(
                "a password does not belong in a config; set MLFLOW_TRACKING_URI, or"
                " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, in the environment"
            )
        return uri


class Run:
    """An open run folder. Use `open_run`."""

    def __init__(self, folder: Path, tracking: TrackingConfig, feeder: FeedThread | None):
        self.folder, self.tracking, self._feeder = folder, tracking, feeder
        self.facts = read_facts(folder)
        self._monitor: SystemMonitor | None = None

    @property
    def id(self) -> str:
        """The run's own id, valid with and without MLflow; what `tracking.parent_run` takes."""
        return str(self.facts["id"])

    def child_tracking(self, **changes: Any) -> TrackingConfig:
        """Tracking settings for a run below this one: same store and experiment."""
        changes = {"parent_run": self.id, "experiment": self.facts["experiment"], **changes}
        return self.tracking.model_copy(update=changes)

    def log(self, metrics: Mapping[str, float], step: int, images: int | None = None) -> None:
        """Append one line {"step", "images", "time" (s since 1970), metrics} to metrics.jsonl.

        Values that are not finite become null. Raises CheckpointError when it cannot be written.
        """
        for name in RESERVED:
            if name in metrics:
                raise ValueError(f"'{name}' is a column of its own and cannot be a metric's name")
        line: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        if images is not None:
            line["images"] = images
        for name, value in metrics.items():
            line[name] = float(value) if math.isfinite(value) else None
        with writing(self.folder / METRICS_FILE):
            append_line(self.folder / METRICS_FILE, line)

    def log_image(self, name: str, pixels: np.ndarray, step: int) -> Path:
        """Write pixels (H, W, 3, uint8 RGB) as NAME/STEP.png of the run folder."""
        from norface.images import write_png

        path = self.folder / name / f"{step:08d}.png"
        with replacing(path) as aside:
            write_png(aside, pixels)
        return path

    def log_artifact(self, source: Path, name: str | None = None) -> Path:
        """Copy a file to artifacts/NAME (its own name by default), which MLflow gets too."""
        path = self.folder / ARTIFACTS / (name or source.name)
        with replacing(path) as aside:
            shutil.copyfile(source, aside)
        return path

    def log_figure(self, name: str, figure: Figure) -> Path:
        """Write a matplotlib figure to artifacts/NAME (NAME ends with .png, .svg or .pdf)."""
        path = self.folder / ARTIFACTS / name
        with replacing(path) as aside:
            figure.savefig(aside, bbox_inches="tight", format=path.suffix[1:])
        return path

    def note(self, **facts: Any) -> None:
        """Keep facts in run.json that MLflow gets too: `models` (files of final weights in the run
        folder), `files` (more files of it, as artifacts), `description` (Markdown)."""
        self.facts.update(facts)
        write_facts(self.folder, self.facts)

    def cut_back(self, step: int) -> None:
        """Drop the metrics after `step`, and a line that a killed process left half-written."""
        path = self.folder / METRICS_FILE
        if not path.exists():
            return
        kept = [
            json.dumps(line) + "\n" for line in read_metrics(self.folder) if line["step"] <= step
        ]
        with replacing(path) as aside:
            aside.write_text("".join(kept), encoding="utf-8")

    def start_feeding(self, *, watch: bool = True) -> None:
        """Begin to feed MLflow and to watch the machine, where the config wants it."""
        every_s = self.tracking.system_every_s if watch else 0
        if every_s and self._monitor is None:
            self._monitor = SystemMonitor(self.folder / SYSTEM_FILE, every_s)
        if self.tracking.mlflow and self._feeder is None:
            from norface.mlflow_feed import FeedThread

            self._feeder = FeedThread(self.folder)

    def finish(
        self, status: str = "finished", step: int | None = None, patience_s: float | None = None
    ) -> None:
        """Note how the run ended (finished, stopped, failed) and let MLflow catch up: a minute, or
        so long as `patience_s` says."""
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor = None
        self.facts.update(status=status, ended=round(time.time(), 3))
        if step is not None:
            self.facts["step"] = step
        write_facts(self.folder, self.facts)
        if self._feeder is not None:
            # A job that was asked to stop has little time left.
            usual = 10 if status == "stopped" else 60
            self._feeder.finish(usual if patience_s is None else patience_s)
            self._feeder = None

    def __enter__(self) -> Run:
        self.start_feeding()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        from norface.training.preemption import StoppedOnRequest

        if kind is None:
            self.finish("finished", self.facts.get("step"))
        else:
            self.finish("stopped" if issubclass(kind, StoppedOnRequest) else "failed")


def open_run(
    folder: Path,
    *,
    kind: str,
    tracking: TrackingConfig,
    root: Path | None = None,
    config: Config | None = None,
    tags: Mapping[str, str] | None = None,
    task: str | None = None,
    datasets: Sequence[Mapping[str, Any]] = (),
) -> Run:
    """Make a run folder, or go on in the one that is there.

    `kind` says what runs (nor, cla, crossval ...). `root` is the folder with the default MLflow
    store, the parent of `folder` by default. `datasets` (norface.data.provenance) and `task` name
    the experiment where the config does not. Use it as a context, or call `start_feeding` and
    `finish`. Raises CheckpointError where the folder cannot be written.
    """
    root = folder.parent if root is None else root
    known = read_facts(folder)
    facts = {
        "id": known.get("id", uuid.uuid4().hex),
        "name": os.path.relpath(folder, root),
        "kind": kind,
        "status": "running",
        "started": known.get("started", round(time.time(), 3)),
        "starts": known.get("starts", 0) + 1,
        "step": known.get("step", 0),
        "config_hash": config_hash(config) if config is not None else "",
        "version": __version__,
        "git": describe_git(),
        "experiment": tracking.experiment or name_experiment(datasets, task),
        "parent": tracking.parent_run,
        "uri": tracking.uri,
        "root": os.path.relpath(root, folder),
        "tags": {**tracking.tags, **(tags or {})},
        "datasets": [dict(one) for one in datasets],
        "models": known.get("models", []),
        "files": known.get("files", []),
        "log_models": tracking.models,
        "description": known.get("description", ""),
    }
    write_facts(folder, facts)
    if config is not None:
        with replacing(folder / CONFIG_FILE) as aside:
            save_config(config, aside)
    return Run(folder, tracking, None)


def name_experiment(datasets: Sequence[Mapping[str, Any]], task: str | None) -> str:
    """`bp4d-au`: corpora and task; `norface` where neither is known."""
    corpora = dict.fromkeys(corpus for one in datasets for corpus in one["corpora"])
    words = ["+".join(corpora), task or ""]
    return "-".join(word for word in words if word) or "norface"


def read_facts(folder: Path) -> dict[str, Any]:
    """What run.json says; {} where there is none."""
    try:
        return dict(json.loads((folder / RUN_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Replace run.json."""
    with replacing(folder / RUN_FILE) as aside:
        aside.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def read_metrics(folder: Path, name: str = METRICS_FILE) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl (or another such file); [] where there is none."""
    return read_lines(folder / name)[0]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into a CheckpointError that names the path and the way out."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CheckpointError(
            f"{path}: cannot be written ({reason}); make room or choose another root=FOLDER"
        ) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` when the block ends well."""
    aside = path.with_name(f".{path.name}")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            os.replace(aside, path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()


def describe_git() -> dict[str, Any]:
    """{"revision": 40 hex digits, "changed": bool} of the code that runs; {} outside a checkout."""
    project = Path(__file__).resolve().parents[1]
    if not (project / ".git").exists():
        return {}

    def ask(*words: str) -> str:
        command = ["git", "-C", str(project), *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        changed = bool(ask("status", "--porcelain", "--untracked-files=no"))
        return {"revision": ask("rev-parse", "HEAD"), "changed": changed}
    except (OSError, subprocess.SubprocessError):
        return {}
