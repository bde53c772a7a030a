"""A run folder => MLflow. The folder is the truth; feeding it twice changes nothing.

What MLflow has is asked once, when a feed begins: metrics by (name, step), images by (name, step),
artifacts by path and sha256, datasets by name and digest, models by the sha256 of their file. Only
what is missing is sent, so a thread beside the training, a later `norface track sync` and a second
store all do the same.
"""

from __future__ import annotations

import fcntl
import json
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from norface.config import flatten
from norface.errors import TrackingError, hide_password
from norface.metric_lines import read_lines
from norface.mlflow_artifacts import SentFiles
from norface.mlflow_client import default_uri, import_mlflow, make_client, reason
from norface.system_metrics import SYSTEM_FILE
from norface.tracking import ARTIFACTS, CONFIG_FILE, METRICS_FILE, RESERVED, RUN_FILE, read_facts

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

METRICS_A_CALL, PARAMS_A_CALL, LONGEST_VALUE = 900, 100, 500
STATUS = {"running": "RUNNING", "finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
KIND_OF_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}
"MLflow opens such an experiment with its table of training runs."
RUN_TAG, PARENT_TAG = "norface.run", "norface.parent"


class Feed:
    """Brings MLflow up to date with one run folder, now and again.

    `uri` is a store other than the run's own: its config's, MLFLOW_TRACKING_URI, ROOT/mlflow.db.
    Every method may raise what MLflow raises when the store cannot be reached.
    """

    def __init__(self, folder: Path, uri: str | None = None):
        self.folder, self.facts = folder, read_facts(folder)
        self.root = (folder / self.facts["root"]).resolve()
        self.uri = uri or self.facts["uri"] or default_uri(self.root)
        self.run_id = ""
        self._sent: set[tuple[str, int]] = set()
        self._files: SentFiles | None = None
        # File => (inode, bytes read of it).
        self._places: dict[str, tuple[int, int]] = {}
        self._described = ""
        self._status, self._experiment, self._has_parent = "", "", False

    def update(self) -> None:
        """Send what is new since the last call."""
        self.facts = read_facts(self.folder)
        if not self.run_id:
            self._connect()
        self._join_parent()
        for name in (METRICS_FILE, SYSTEM_FILE):
            self._send_metrics(self.folder / name)
        self._send_images()
        self._send_artifacts()
        self._send_description()
        if self.facts["status"] != "running":
            self._send_models()
        self._send_status()

    def _connect(self) -> None:
        """Find this run in the store, or make it; learn what the store already has."""
        self.client = make_client(self.uri)
        experiment = self._experiment_id()
        with open(self.folder / ".mlflow.lock", "a") as lock:
            # Two feeds that both find no run (a sync beside the training) would each make one.
            fcntl.flock(lock, fcntl.LOCK_EX)
            run_id = self._find(experiment, self.facts["id"])
            if run_id is None:
                started = int(self.facts["started"] * 1000)
                run = self.client.create_run(experiment, started, {RUN_TAG: self.facts["id"]})
                run_id = run.info.run_id
        run = self.client.get_run(run_id)
        for name in run.data.metrics:
            history = self.client.get_metric_history(run_id, name)
            self._sent |= {(name, metric.step) for metric in history}
        for item in self.client.list_artifacts(run_id, "images"):
            if match := re.match(r"images/(.+?)\+step\+(\d+)\+", item.path):
                self._sent.add((f"image {match[1]}", int(match[2])))
        self._describe(run_id, run.data.params)
        listed = self.client.list_artifacts(run_id, ARTIFACTS)
        record = {"uri": hide_password(self.uri), "experiment_id": experiment, "run_id": run_id}
        self._files = SentFiles(self.folder, record, {Path(item.path).name for item in listed})
        self._status, self._experiment, self.run_id = run.info.status, experiment, run_id

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self.facts["experiment"]
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = None
        if self.uri.startswith("sqlite:"):
            place = (self.root / "mlartifacts" / name).as_uri()
        try:
            return str(self.client.create_experiment(name, place, KIND_OF_EXPERIMENT))
        except MlflowException:
            # Another process has made it since.
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _find(self, experiment: str, own_id: str) -> str | None:
        """MLflow's id of the run with our id."""
        words = f"tags.`{RUN_TAG}` = '{own_id}'"
        runs = self.client.search_runs([experiment], words, max_results=1)
        return runs[0].info.run_id if runs else None

    def _describe(self, run_id: str, known: Mapping[str, str]) -> None:
        """Tags, and the config's keys as params (MLflow never lets a param change)."""
        from mlflow.entities import Param, RunTag

        git = self.facts["git"]
        tags = {
            "mlflow.runName": self.facts["name"],
            "kind": self.facts["kind"],
            "config_hash": self.facts["config_hash"],
            **({"mlflow.source.git.commit": git["revision"]} if git else {}),
            **({"git_changed": str(git["changed"]).lower()} if git else {}),
            **self.facts["tags"],
        }
        if self.facts["parent"]:
            tags[PARENT_TAG] = self.facts["parent"]
        params = [
            Param(key, text[:LONGEST_VALUE])
            for key, text in self._config_texts().items()
            if key not in known
        ]
        run_tags = [RunTag(key, str(value)) for key, value in tags.items()]
        self.client.log_batch(run_id, tags=run_tags)
        for start in range(0, len(params), PARAMS_A_CALL):
            self.client.log_batch(run_id, params=params[start : start + PARAMS_A_CALL])
        self._log_inputs(run_id, make_dataset_inputs(self.facts.get("datasets", [])))

    def _log_inputs(self, run_id: str, datasets: list[DatasetInput], tries: int = 5) -> None:
        """Name the data. MLflow keeps one data set of each name and digest in an experiment, and
        fails for the second of two runs that bring it at once."""
        for left in reversed(range(tries if datasets else 0)):
            try:
                return self.client.log_inputs(run_id, datasets)
            except Exception as error:
                if not left or "UNIQUE" not in str(error).upper():
                    raise
                time.sleep(0.2)

    def _join_parent(self) -> None:
        """Nest this run below its parent, as soon as the store knows that one."""
        parent = self.facts["parent"]
        if self._has_parent or not parent:
            return
        found = self._find(self._experiment, parent)
        if found is None and self._exists(parent):
            found = parent
        if found is not None:
            self.client.set_tag(self.run_id, "mlflow.parentRunId", found)
            self._has_parent = True

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return True

    def _config_texts(self) -> dict[str, str]:
        path = self.folder / CONFIG_FILE
        if not path.exists():
            return {}
        values = flatten(yaml.safe_load(path.read_text(encoding="utf-8")))
        return {key: yaml_text(value) for key, value in values.items()}

    def _send_metrics(self, path: Path) -> None:
        from mlflow.entities import Metric

        if not path.exists():
            return
        inode, offset = self._places.get(path.name, (-1, 0))
        if path.stat().st_ino != inode:
            # A resumed run has replaced the file; what was sent before is known by name and step.
            inode, offset = path.stat().st_ino, 0
        lines, offset = read_lines(path, offset)
        new = []
        for line in lines:
            stamp, step = int(line["time"] * 1000), line["step"]
            for name, value in line.items():
                if name not in RESERVED and value is not None and (name, step) not in self._sent:
                    new.append(Metric(name, value, stamp, step))
        for start in range(0, len(new), METRICS_A_CALL):
            part = new[start : start + METRICS_A_CALL]
            self.client.log_batch(self.run_id, metrics=part)
            self._sent |= {(metric.key, metric.step) for metric in part}
        self._places[path.name] = (inode, offset)

    def _send_images(self) -> None:
        from PIL import Image

        for path in sorted(self.folder.glob("*/" + "[0-9]" * 8 + ".png")):
            name, step = path.parent.name, int(path.stem)
            if (f"image {name}", step) not in self._sent:
                with Image.open(path) as picture:
                    self.client.log_image(self.run_id, picture, key=name, step=step)
                self._sent.add((f"image {name}", step))

    def _send_artifacts(self) -> None:
        assert self._files is not None
        folder = self.folder / ARTIFACTS
        paths = sorted(folder.glob("[!.]*")) if folder.is_dir() else []
        for path in [*paths, *(self.folder / name for name in self.facts.get("files", []))]:
            if self._files.is_new(path):
                self.client.log_artifact(self.run_id, str(path), ARTIFACTS)
                self._files.note(path)

    def _send_description(self) -> None:
        """What MLflow shows above the run."""
        text = str(self.facts.get("description", ""))
        if text != self._described:
            self.client.set_tag(self.run_id, "mlflow.note.content", text)
            self._described = text

    def _send_models(self) -> None:
        """Final weights as MLflow's models."""
        files = self.facts.get("models", []) if self.facts.get("log_models", True) else []
        if files:
            from norface.mlflow_models import log_models

            log_models(
                self.client,
                experiment_id=self._experiment,
                run_id=self.run_id,
                paths=[self.folder / name for name in files],
                step=int(self.facts.get("step", 0)),
            )

    def _send_status(self) -> None:
        status = STATUS[self.facts["status"]]
        if status == self._status:
            return
        if status == "RUNNING":
            self.client.update_run(self.run_id, status=status)
        else:
            ended = int(self.facts["ended"] * 1000)
            self.client.set_terminated(self.run_id, status, ended)
        self._status = status


class FeedThread:
    """Feeds a run every `every_s` seconds until `finish`; a failing store costs it nothing."""

    def __init__(self, folder: Path, every_s: float = 10):
        # Here, not in the thread: reading processes may be forked while it would import.
        import_mlflow()
        self.feed, self.every_s = Feed(folder), every_s
        self.up_to_date, self._warned = False, False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mlflow-feed", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        wait_s = 0.0
        while not self._ending.wait(wait_s):
            wait_s = self.every_s if self._try() else min(300, 2 * max(wait_s, self.every_s))
        self._try()

    def _try(self) -> bool:
        try:
            self.feed.update()
            self.up_to_date = True
        except Exception as error:
            # Whatever a store, a driver or a network says: the run folder has it all.
            self.up_to_date = False
            if not self._warned:
                print(
                    f"MLflow is not fed for now, the run goes on: {reason(error)}", file=sys.stderr
                )
                self._warned = True
        return self.up_to_date

    def finish(self, patience_s: float) -> None:
        """Feed the rest, but wait no longer than `patience_s`."""
        self._ending.set()
        self._thread.join(patience_s)
        if self._thread.is_alive() or not self.up_to_date:
            command = f"norface track sync {self.feed.folder}"
            print(f"MLflow is not up to date; later: {command}", file=sys.stderr, flush=True)


def sync(folders: Sequence[Path], uri: str | None = None) -> None:
    """Feed finished or interrupted runs, parents before their children.

    Raises TrackingError naming the folder that is no run, or the store that cannot be reached.
    """
    import_mlflow()
    for folder in folders:
        if not read_facts(folder):
            raise TrackingError(f"{folder}: no {RUN_FILE}; give the folder of a run")
    for folder in sorted(folders, key=lambda folder: read_facts(folder)["started"]):
        feed = Feed(folder, uri)
        try:
            feed.update()
        except Exception as error:
            place = hide_password(feed.uri)
            raise TrackingError(
                f"{folder}: not fed to {place} ({reason(error)}); try again later"
            ) from error
        print(f"{folder}: MLflow run {feed.run_id} is up to date")


def make_dataset_inputs(datasets: Sequence[Mapping[str, Any]]) -> list[DatasetInput]:
    """Entries of norface.data.provenance as MLflow's inputs of a run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for one in datasets:
        profile = {"num_rows": one["pictures"], "num_persons": one["persons"]}
        profile |= {name: one[name] for name in ("target", "generator") if name in one}
        source = {"uri": hide_password(one["source"])}
        dataset = Dataset(
            one["name"], one["digest"], "local" if "://" not in one["source"] else "http",
            json.dumps(source), profile=json.dumps(profile),
        )  # fmt: skip
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", one["context"])]))
    return inputs


def yaml_text(value: Any) -> str:
    """true, null, 0.1, [a, b]: a config value as its yaml."""
    return str(value) if isinstance(value, str) else json.dumps(value)
