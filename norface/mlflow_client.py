"""MLflow itself: imported when it is needed, asked through a client of its own."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from norface.errors import hide_password

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
    """A client of one store, apart from whatever `mlflow.set_tracking_uri` says."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def reason(error: Exception) -> str:
    """The beginning of an error's first line, without the password that it may quote."""
    return hide_password((str(error).splitlines() or [type(error).__name__])[0])[:200]
