"""Which data a run saw, as its run.json and MLflow's page of datasets name it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from norface.data.indexing import INDEX_NAME, find_rehearsal
from norface.data.normalized import SET_NAME, read_set
from norface.data.remote import ShardPlace, local_folder

DIGEST_DIGITS = 12


def list_datasets(
    folders: Sequence[ShardPlace], *, cache: Path | None = None, context: str = "training"
) -> list[dict[str, Any]]:
    """One entry a folder of shards: {"name", "corpora", "digest", "source", "context", "pictures",
    "persons", "target" and "generator" (of a normalized set)}. Raises CorpusError, ConfigError.

    The faces of a rehearsal are of `disfa-rehearsal`, in MLflow an experiment of its own.
    `digest` is the beginning of the sha256 of the index, which changes whenever the folder does.
    """
    found = []
    for folder in folders:
        index = local_folder(folder, cache, INDEX_NAME) / INDEX_NAME
        if not index.is_file():
            # The stage says what is wrong with its shards.
            continue
        table = pq.read_table(index, columns=["corpus", "subject"])
        corpora = sorted({str(name) for name in table["corpus"].unique().to_pylist()})
        if find_rehearsal(index.parent) is not None:
            corpora = [f"{name}-rehearsal" for name in corpora]
        persons = len(table.group_by(["corpus", "subject"]).aggregate([]))
        entry = {
            "name": "+".join(corpora),
            "corpora": corpora,
            "digest": hashlib.sha256(index.read_bytes()).hexdigest()[:DIGEST_DIGITS],
            "source": str(folder),
            "context": context,
            "pictures": len(table),
            "persons": persons,
        }
        if (index.parent / SET_NAME).is_file():
            card = read_set(index.parent)
            entry |= {"name": f"{entry['name']} as {card.target}", "target": card.target}
            entry["generator"] = card.generator
        found.append(entry)
    return found


def describe_data(
    datasets: Sequence[dict[str, Any]], task: str, **tags: str | None
) -> dict[str, Any]:
    """What a stage's config says of a run before it begins: {"task", "datasets", "tags"}. The
    targets and generators of normalized sets become the tags `target` and `generator`."""
    found: dict[str, str | None] = {
        what: ", ".join(dict.fromkeys(one[what] for one in datasets if what in one))
        for what in ("target", "generator")
    }
    found |= tags
    return {
        "task": task,
        "datasets": list(datasets),
        "tags": {name: value for name, value in found.items() if value},
    }
