"""Which persons train and which are tested: the settings that F_nor and F_cla share."""

from __future__ import annotations

from pydantic import Field

from norface.config import Config


class FoldChoice(Config):
    """One of the subject-exclusive folds of a corpus."""

    folds: str | None = None
    """Name of committed folds, path of a json, `official` for the one fold of the corpus's own
    train and test parts (named test=test), or `corpora` for a fold a corpus (named test=CORPUS);
    null = equal parts of the subjects, by `seed`."""
    train_corpora: list[str] | None = None
    "With folds=corpora: train on these and test the others; null = leave one corpus out."
    parts: int = Field(3, ge=2)
    "Folds that are drawn where none are named."
    validation_share: float = Field(0.15, ge=0, lt=1)
    "Share of the train subjects that is kept for choosing the epoch (`strict`)."
    seed: int = Field(0, ge=0)
    "Seed of the drawn folds."
    fold: str = "test=part1"
    "Which fold tests."
