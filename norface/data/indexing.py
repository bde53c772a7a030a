"""The index file of a folder of shards: one row a sample, columnar, with byte offsets.

shards.py is the way to use it; here are its columns, its reading and its writing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from norface.data.listing import unreadable
from norface.data.rehearsal import Rehearsal, read_marker, write_marker
from norface.data.tars import Member, scan_shard, unwritable
from norface.errors import CorpusError
from norface.images import decode_jpeg

INDEX_NAME = "index.parquet"

WORDS = ("corpus", "subject", "clip", "split", "shard", "emotion")
"Text columns of few values, kept as categories."
LABELS = ("au_", "intensity_")
"Beginnings of the label columns; a unit's number follows."
NUMBERS = ("frame", "image_offset", "image_size", "json_offset", "json_size")


def list_shards(folder: str | Path) -> list[Path]:
    """The tars of a folder in the order of their names; [] where there is no folder.

    Raises CorpusError for one that cannot be read.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(error, folder) from None
    return sorted(Path(folder, name) for name in names if name.endswith(".tar"))


def shard_side(path: Path) -> int:
    """Side in pixels of a shard's first picture."""
    member = next(scan_shard(path), None)
    if member is None:
        raise CorpusError(f"{path}: holds no sample")
    with open(path, "rb") as file:
        file.seek(member.image_offset)
        return decode_jpeg(file.read(member.image_size), f"{path}: {member.record.key}").shape[0]


def write_index(folder: str | Path) -> None:
    """Build `index.parquet` from the tars alone, for shards written by several jobs."""
    paths = list_shards(folder)
    if not paths:
        raise CorpusError(f"{folder}: holds no shards")
    tables = {path.name: build_table(path.name, scan_shard(path)) for path in paths}
    save_index(Path(folder), tables, shard_side(paths[0]))


def save_index(folder: Path, tables: dict[str, pa.Table], side: int) -> None:
    """Write the index of shards (file name => its rows), whole or not at all."""
    table = join_tables(tables[name] for name in sorted(tables))
    refuse_duplicates(table["key"], folder)
    # Jobs that finish together may each write the index: the same one, so the last name wins.
    temporary = folder / f"{INDEX_NAME}.{os.getpid()}.tmp"
    try:
        sizes = {name: (folder / name).stat().st_size for name in sorted(tables)}
        about: dict[str, Any] = {"side": side, "shards": sizes}
        if (rehearsal := find_rehearsal(folder)) is not None:
            about["rehearsal"] = rehearsal.model_dump()
        metadata = {b"norface": json.dumps(about).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), temporary)
        os.replace(temporary, folder / INDEX_NAME)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(folder / INDEX_NAME, error) from None


def build_table(name: str, members: Iterable[Member]) -> pa.Table:
    """The rows of one shard: the index's columns, labels nullable and only of units that appear."""
    members = list(members)
    records = [member.record for member in members]
    text = pa.string()
    columns: dict[str, pa.Array] = {"key": pa.array([record.key for record in records], text)}
    for word in ("corpus", "subject", "clip", "split", "emotion"):
        columns[word] = pa.array([getattr(record, word) for record in records], text)
    columns["shard"] = pa.array([name] * len(members), text)
    columns["frame"] = pa.array([record.frame for record in records], pa.int64())
    for number in NUMBERS[1:]:
        columns[number] = pa.array([getattr(member, number) for member in members], pa.int64())
    for prefix, field, kind in (
        ("au", "presence", pa.int8()),
        ("intensity", "intensity", pa.float32()),
    ):
        labels = [getattr(record, field) for record in records]
        for unit in {unit for one in labels for unit in one}:
            columns[f"{prefix}_{unit}"] = pa.array([one.get(unit) for one in labels], kind)
    return pa.table(columns)


def join_tables(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables of shards as one, label columns in the order of their units."""
    table = pa.concat_tables(tables, promote_options="default").combine_chunks()
    words = [name for name in table.column_names if not name.startswith(LABELS)]
    labels = [name for name in table.column_names if name.startswith(LABELS)]
    labels.sort(key=lambda name: (name.split("_")[0], int(name.split("_")[1])))
    return table.select(words + labels)


def refuse_duplicates(keys: pa.ChunkedArray, where: object) -> None:
    """Raise CorpusError naming the first key that comes twice."""
    if pc.count_distinct(keys).as_py() == len(keys):
        return
    counts = pc.value_counts(keys.combine_chunks())
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    raise CorpusError(
        f"{where}: {len(twice)} keys come more than once, first {twice[0]['values']};"
        " keys must be unique over all shards that are used together"
    )


def read_index(folder: Path) -> tuple[pa.Table, dict[str, Any]]:
    """(table, {"side": pixels, "shards": {file name: bytes}}) of a folder. Raises CorpusError."""
    path = folder / INDEX_NAME
    try:
        there = path.is_file()
    except OSError as error:
        raise unreadable(error, path) from None
    if not there:
        if list_shards(folder):
            raise CorpusError(
                f"{path}: missing beside its tars; run norface check {folder} --rebuild-index"
            )
        raise CorpusError(f"{folder}: no shards in this folder (no {INDEX_NAME}, no tar)")
    try:
        table = pq.read_table(path, read_dictionary=list(WORDS))
        about = json.loads(table.schema.metadata[b"norface"])
        side, sizes = about["side"], about["shards"]
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise CorpusError(
            f"{path}: damaged, or no index; run norface check {folder} --rebuild-index"
        ) from None
    missing = [name for name in ("key", *WORDS, *NUMBERS) if name not in table.column_names]
    if missing:
        raise CorpusError(f"{path}: lacks the columns {', '.join(missing)}")
    refuse_rows(path, table, sizes)
    return table.replace_schema_metadata(None), {"side": side, "shards": sizes}


def find_rehearsal(folder: Path) -> Rehearsal | None:
    """What a folder of shards is a rehearsal of, by its marker or its index; None = it is none.

    A damaged index says nothing here: whoever reads it does. Raises CorpusError for a marker.
    """
    if (found := read_marker(folder)) is not None:
        return found
    try:
        metadata = pq.read_schema(folder / INDEX_NAME).metadata or {}
        return Rehearsal.model_validate(json.loads(metadata[b"norface"])["rehearsal"])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        return None


def hand_on_marker(sources: Iterable[Path], folder: Path) -> None:
    """Mark a folder of shards as a rehearsal where one of those that it is made from is one."""
    write_marker(folder, next(filter(None, map(find_rehearsal, sources)), None))


def refuse_rows(path: Path, table: pa.Table, sizes: dict[str, Any]) -> None:
    """Raise CorpusError naming the first row that no reader can follow: of a shard that the index
    does not list or of another folder, or with a place in it that is negative or none."""
    row, what = -1, ""
    names = {str(one) for one in table["shard"].unique().to_pylist()}
    if unknown := sorted(name for name in names if name not in sizes or "/" in name):
        row = table["shard"].to_pylist().index(unknown[0])
        what = f"lies in {unknown[0]}, which is no shard that the index lists"
    for name in NUMBERS:
        if not pa.types.is_integer(table[name].type):
            raise CorpusError(f"{path}: {name} holds {table[name].type}, no whole numbers; damaged")
        least = pc.min(table[name]).as_py()
        if table[name].null_count or (least is not None and least < 0):
            values = table[name].to_pylist()
            row = next(at for at, one in enumerate(values) if one is None or one < 0)
            what = f"has {name} {values[row]}"
    if row >= 0:
        raise CorpusError(
            f"{path}: row {row} ({table['key'][row].as_py()}) {what}; run norface check"
            f" {path.parent} --rebuild-index"
        )


def to_frame(table: pa.Table) -> pd.DataFrame:
    """The table in memory: words as categoricals, labels as float32 with NaN where unlabelled.

    Columns of numbers share the memory of the table and must not be written to. What is not shared
    is freed on the way, where the caller does not hold the table.
    """
    for number, name in enumerate(table.column_names):
        if name.startswith(LABELS):
            table = table.set_column(number, name, table[name].cast(pa.float32()))
        elif name in WORDS and not pa.types.is_dictionary(table[name].type):
            table = table.set_column(number, name, table[name].dictionary_encode())
    table = table.unify_dictionaries()
    return table.to_pandas(split_blocks=True, self_destruct=True)
