"""Run directory, metrics.jsonl and MLflow."""

from __future__ import annotations

from norface.config import Config


class TrackingConfig(Config):
    """Where metrics go besides the run's own metrics.jsonl."""

    mlflow: bool = True
    "Feed MLflow from rank 0."
    uri: str | None = None
    "Tracking server; null = MLFLOW_TRACKING_URI, else sqlite in ROOT/mlflow.db."
    experiment: str = "norface"
    "Experiment: corpus and task."
    parent_run: str | None = None
    "MLflow id of the run that this one is a child of."
    tags: dict[str, str] = {}
    "Tags beside stage, fold, target, config hash and git revision."
