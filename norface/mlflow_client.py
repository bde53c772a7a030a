"""MLflow itself: imported when it is needed, asked through a client of its own."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from norface.errors import hide_password
from norface.files import write_aside

if TYPE_CHECKING:
    from mlflow import MlflowClient


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


def make_client(uri: str) -> MlflowClient:
    """A client of one store, apart from whatever `mlflow.set_tracking_uri` says.

    A sqlite file that is not there yet is made, whole or not at all.
    """
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///") and "?" not in uri:
        make_store(Path(uri.removeprefix("sqlite:///")))
    return MlflowClient(tracking_uri=uri)


def make_store(path: Path) -> None:
    """A new sqlite store at `path`; one that is there stays as it is.

    MLflow makes its tables in some dozen steps over seconds, and cannot go on where a killed
    process left them. So they are made elsewhere.
    """
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        with tempfile.TemporaryDirectory(prefix="norface-mlflow-") as folder:
            draft = Path(folder) / path.name
            MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments(max_results=1)
            with (
                write_aside(path) as aside,
                contextlib.closing(sqlite3.connect(draft)) as made,
                contextlib.closing(sqlite3.connect(aside)) as copy,
            ):
                made.backup(copy)


def reason(error: Exception) -> str:
    """The beginning of an error's first line, without the password that it may quote."""
    return hide_password((str(error).splitlines() or [type(error).__name__])[0])[:200]
