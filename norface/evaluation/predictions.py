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

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from norface.errors import CorpusError

COLUMNS = ("key", "subject", "fold", "target", "truth", "score")
TASKS = ("au", "intensity", "emotion")
LARGEST = 5.0
"Intensities of truth are 0..5."


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
    check_values(table, task, str(path))
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


def read_predictions(path: str | Path, task: str | None = None) -> tuple[pd.DataFrame, str]:
    """Predictions and their task. Raises CorpusError for what is no table of predictions.

    `task` is asked for where the file does not say it; else it is guessed: emotion targets have
    other names than AU numbers, and intensities go beyond 1.
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
    # Somebody else's keys, folds and units may be numbers.
    for column in ("key", "fold", "target"):
        table[column] = table[column].where(table[column].isna(), table[column].astype(str))
    for column in ("truth", "score"):
        try:
            table[column] = table[column].astype(float)
        except (TypeError, ValueError):
            raise CorpusError(f"{path}: the column {column} holds more than numbers") from None
    check_predictions(table, str(path))
    said = (arrow.schema.metadata or {}).get(b"task", b"").decode()
    if said in TASKS and task not in (None, said):
        raise CorpusError(f"{path}: holds predictions of the task {said}, not {task}")
    task = said if said in TASKS else task or _guess_task(table)
    check_values(table, task, str(path))
    return table, task


def _guess_task(table: pd.DataFrame) -> str:
    if not table["target"].str.startswith("AU").all():
        return "emotion"
    truth = table["truth"].dropna()
    return "au" if truth.isin((0, 1)).all() else "intensity"


def check_values(table: pd.DataFrame, task: str, name: str) -> None:
    """Raise CorpusError for a truth or a score that the task does not have."""
    truth = table["truth"]
    if task == "emotion":
        if len(names := table["target"].unique()) < 2:
            raise CorpusError(
                f"{name}: {names[0]} is the only class; recognition needs a row for each of two or"
                " more emotions"
            )
        found = table.assign(odd=truth.notna() & ~truth.isin((0, 1))).groupby("key", sort=False)
        per_key = found.agg(
            known=("truth", "count"),
            rows=("truth", "size"),
            sum=("truth", "sum"),
            odd=("odd", "any"),
        )
        whole = (per_key["known"] == per_key["rows"]) & (per_key["sum"] == 1) & ~per_key["odd"]
        bad = ~(whole | (per_key["known"] == 0))
        if bad.any():
            raise CorpusError(
                f"{name}: the truth of {bad.index[bad][0]} is not 1 for one emotion and 0 for the"
                " others; leave all empty where it is unknown"
            )
        return
    wrong = truth.notna() & (~truth.isin((0, 1)) if task == "au" else ~truth.between(0, LARGEST))
    if wrong.any():
        row = table[wrong].iloc[0]
        expected = "0 or 1" if task == "au" else "an intensity of 0..5"
        raise CorpusError(
            f"{name}: the truth of {row['key']} for {row['target']} is {row['truth']:g}; expected"
            f" {expected}, or nothing where it is unknown"
        )
    if task == "au" and not table["score"].between(0, 1).all():
        row = table[~table["score"].between(0, 1)].iloc[0]
        raise CorpusError(
            f"{name}: the score of {row['key']} for {row['target']} is {row['score']:g}; detection"
            " has probabilities of 0..1 (intensities: --task intensity)"
        )


def check_predictions(table: pd.DataFrame, name: str) -> None:
    """Raise CorpusError for doubled or missing rows, and for scores that are no numbers.

    Every key must have every target once, in one fold: a frame that counts twice, or an action unit
    that some frames lack, would shift each metric silently.
    """
    if not len(table):
        raise CorpusError(f"{name}: holds no predictions")
    if table[["key", "fold", "target"]].isna().to_numpy().any():
        raise CorpusError(f"{name}: a row lacks its key, its fold or its target")
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
    folds = table.groupby("key", sort=False)["fold"].nunique()
    if (folds != 1).any():
        raise CorpusError(f"{name}: {folds.index[(folds != 1).to_numpy()][0]} is in two folds")


def check_folds(folds: Mapping[str, Sequence[pd.DataFrame]]) -> None:
    """Raise CorpusError unless every sample is tested in one fold, once a seed.

    Fold => one table a seed. Seeds of a fold must be of the same samples; no two folds share one.
    """
    home: dict[str, str] = {}
    for fold, tables in folds.items():
        keys = list(dict.fromkeys(tables[0]["key"]))
        for number, table in enumerate(tables[1:], 2):
            require_keys(table, keys, f"fold {fold}, file {number}")
        for key in keys:
            if key in home:
                raise CorpusError(
                    f"{key} is tested in the folds {home[key]} and {fold}; a sample counts once"
                )
            home[key] = fold


def require_keys(table: pd.DataFrame, keys: Sequence[str], name: str) -> None:
    """Raise CorpusError unless the predictions are of exactly these samples."""
    found = set(table["key"])
    missing = sorted(set(keys) - found)
    extra = sorted(found - set(keys))
    if missing:
        raise CorpusError(f"{name}: {len(missing)} keys are missing, first {missing[0]}")
    if extra:
        raise CorpusError(f"{name}: {len(extra)} keys are not of this fold, first {extra[0]}")
