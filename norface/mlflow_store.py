"""MLflow as this project uses it: how it is imported, where its store is, what it is told."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput


def import_mlflow() -> None:
    """Import MLflow (seconds) without its telemetry, its chatter and its minutes of retrying."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    import mlflow.tracking  # noqa: F401

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def default_uri(root: Path = Path("runs")) -> str:
    """MLFLOW_TRACKING_URI, else the sqlite file of a folder of runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"


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


def make_client(uri: str) -> MlflowClient:
    """A client of one store, apart from whatever `mlflow.set_tracking_uri` says."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def reason(error: Exception) -> str:
    """The beginning of an error's first line, without the password that it may quote."""
    return hide_password((str(error).splitlines() or [type(error).__name__])[0])[:200]


def hide_password(text: str) -> str:
    """Text without the user and password of addresses in it."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def yaml_text(value: Any) -> str:
    """true, null, 0.1, [a, b]: a config value as its yaml."""
    return str(value) if isinstance(value, str) else json.dumps(value)
