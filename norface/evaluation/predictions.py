"""Predictions on disk: one row a sample and target, whoever made them.

key      sample (corpus_subject_clip_frame for ours)
subject  person within the corpus; samples without one: empty, then a sample is its own subject
fold     name of the fold that the sample was tested in ("test=part1")
target   "AU12" (score = probability, or intensity 0..5), or an emotion (score = probability of
         the class; one row a class; truth = 1 for the true class)
truth    0/1, intensity 0..5; null = unlabelled
score    the network's answer
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from norface.errors import CorpusError

COLUMNS = ("key", "subject", "fold", "target", "truth", "score")
TASKS = ("au", "intensity", "emotion")


def tabulate(
    *,
    keys: Sequence[str],
    subjects: Sequence[str],
    fold: str,
    targets: Sequence[str],
    truth: np.ndarray,
    scores: np.ndarray,
) -> pd.DataFrame:
    """Arrays (N, T), NaN = unlabelled => the rows of predictions, sample by sample."""
    count = len(targets)
    return pd.DataFrame(
        {
            "key": np.repeat(np.asarray(keys, object), count),
            "subject": np.repeat(np.asarray(subjects, object), count),
            "fold": fold,
            "target": np.tile(np.asarray(targets, object), len(keys)),
            "truth": np.asarray(truth, np.float64).reshape(-1),
            "score": np.asarray(scores, np.float64).reshape(-1),
        }
    )


def write_predictions(table: pd.DataFrame, path: str | Path, *, task: str) -> None:
    """Write predictions under another name and rename; the task travels in the file's metadata."""
    check_predictions(table, str(path))
    path = Path(path)
    arrow = pa.Table.from_pandas(
        table[list(COLUMNS)].assign(truth=table["truth"].astype("Float64")), preserve_index=False
    )
    arrow = arrow.replace_schema_metadata({"task": task})
    temporary = path.with_name(path.name + ".tmp")
    try:
        pq.write_table(arrow, temporary)
        temporary.replace(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written ({error.strerror})") from None


def read_predictions(path: str | Path) -> tuple[pd.DataFrame, str]:
    """Predictions and their task. Raises CorpusError for what is no table of predictions.

    Where the file does not say its task: emotion targets have other names than AU numbers, and
    intensities of truth go beyond 1.
    """
    try:
        arrow = pq.read_table(path)
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file of predictions") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise CorpusError(f"{path}: not a readable parquet file ({error})") from None
    missing = [column for column in COLUMNS if column not in arrow.column_names]
    if missing:
        raise CorpusError(
            f"{path}: no column {', '.join(missing)}; predictions have {', '.join(COLUMNS)}"
        )
    table = arrow.select(list(COLUMNS)).to_pandas()
    table["truth"] = table["truth"].astype(float)
    check_predictions(table, str(path))
    task = (arrow.schema.metadata or {}).get(b"task", b"").decode()
    return table, task if task in TASKS else _guess_task(table)


def _guess_task(table: pd.DataFrame) -> str:
    if not table["target"].str.startswith("AU").all():
        return "emotion"
    truth = table["truth"].dropna()
    return "au" if truth.isin((0, 1)).all() else "intensity"


def check_predictions(table: pd.DataFrame, name: str) -> None:
    """Raise CorpusError for doubled or missing rows, and for scores that are no numbers.

    Every key must have every target once, in one fold: a frame that counts twice, or an action unit
    that some frames lack, would shift each metric silently.
    """
    if not len(table):
        raise CorpusError(f"{name}: holds no predictions")
    if not np.isfinite(table["score"]).all():
        bad = table.loc[~np.isfinite(table["score"]), "key"].iloc[0]
        raise CorpusError(f"{name}: a score of {bad} is not a finite number")
    doubled = table.duplicated(["key", "target"])
    if doubled.any():
        row = table[doubled].iloc[0]
        raise CorpusError(f"{name}: {row['key']} has {row['target']} more than once")
    targets = table["target"].nunique()
    counts = table.groupby("key", sort=False)["target"].size()
    if (counts != targets).any():
        key = counts.index[(counts != targets).to_numpy()][0]
        raise CorpusError(
            f"{name}: {key} has {counts[key]} of {targets} targets; predict every target of a key"
        )


def require_keys(table: pd.DataFrame, keys: Sequence[str], name: str) -> None:
    """Raise CorpusError unless the predictions are of exactly these samples."""
    found = set(table["key"])
    missing = sorted(set(keys) - found)
    extra = sorted(found - set(keys))
    if missing:
        raise CorpusError(f"{name}: {len(missing)} keys are missing, first {missing[0]}")
    if extra:
        raise CorpusError(f"{name}: {len(extra)} keys are not of this fold, first {extra[0]}")
