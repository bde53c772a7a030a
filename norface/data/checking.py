"""What a folder of shards holds and what is wrong with it, found from the tars themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from norface.config import Config
from norface.data.indexing import (
    build_table,
    find_rehearsal,
    join_tables,
    list_shards,
    read_index,
    to_frame,
)
from norface.data.label_counts import (
    Labels,
    Parts,
    count_labels,
    count_parts,
    count_splits,
    count_subjects,
)
from norface.data.tars import Member, scan_shard
from norface.errors import CorpusError
from norface.images import decode_jpeg


class Problem(Config):
    """One thing that is damaged."""

    file: str
    "Name of the shard or of the index."
    key: str = ""
    "The sample, where it is one sample."
    what: str
    "What is wrong, in words."


class ShardReport(Config):
    """All that `norface check` finds; `problems` is empty for sound shards."""

    folder: str
    rehearsal: bool = False
    "Whether these are synthetic faces under a corpus's name (`norface synth --layout`)."
    side: int | None = Field(None)
    "Side of the pictures in pixels; null when no picture could be read."
    shards: int
    bytes: int
    "Size of the tars."
    subjects: dict[str, int] = {}
    "Corpus => number of subjects."
    samples_per_subject: list[int] = []
    "Fewest and most samples of a subject."
    splits: dict[str, int] = {}
    all: Labels
    by_part: Parts
    same_pictures: int = 0
    "Samples whose JPEG is byte for byte that of an earlier sample."
    unfinished: list[str] = []
    "Temporary files of a run that is under way or was killed."
    problems: list[Problem] = []


def check_shards(
    folder: str | Path, advance: Callable[[int], None] = lambda count: None
) -> ShardReport:
    """Read every sample of a folder; `advance` is called with 1 after every shard.

    Damage becomes a `Problem` and the check goes on. Raises CorpusError for a folder without any.
    """
    folder = Path(folder)
    paths = list_shards(folder)
    if not paths:
        read_index(folder)
        raise CorpusError(f"{folder}: its index is there, its tars are missing")
    tables, problems = [], []
    sides: dict[int | None, int] = {}
    pictures: set[bytes] = set()
    repeated = 0
    for path in paths:
        members: list[Member] = []
        try:
            with open(path, "rb") as file:
                for member in scan_shard(path):
                    members.append(member)
                    file.seek(member.image_offset)
                    data = file.read(member.image_size)
                    digest = hashlib.blake2b(data, digest_size=12).digest()
                    repeated += digest in pictures
                    pictures.add(digest)
                    side, what = check_picture(data)
                    sides[side] = sides.get(side, 0) + 1
                    if what:
                        problems.append(Problem(file=path.name, key=member.record.key, what=what))
        except (CorpusError, OSError) as error:
            what = str(error).removeprefix(f"{path}: ")
            problems.append(Problem(file=path.name, what=what))
        tables.append(build_table(path.name, members))
        advance(1)
    table = join_tables(tables)
    if len(known := [side for side in sides if side is not None]) > 1:
        text = ", ".join(f"{sides[side]} of {side}" for side in sorted(known))
        problems.append(Problem(file=folder.name, what=f"pictures of different sides: {text}"))
    side = max(known, key=sides.__getitem__, default=None)
    problems += repeated_keys(table) + compare_index(folder, paths, table, side)
    frame = to_frame(table)
    subjects, samples_per_subject = count_subjects(frame)
    return ShardReport(
        folder=str(folder),
        rehearsal=find_rehearsal(folder) is not None,
        side=side,
        shards=len(paths),
        subjects=subjects,
        samples_per_subject=samples_per_subject,
        splits=count_splits(frame),
        all=count_labels(frame),
        by_part=count_parts(frame),
        bytes=sum(path.stat().st_size for path in paths),
        same_pictures=repeated,
        unfinished=sorted(path.name for path in folder.glob("*.tmp")),
        problems=problems,
    )


def check_picture(data: bytes) -> tuple[int | None, str]:
    """(side in pixels, what is wrong or "") of an encoded picture, decoded in full."""
    try:
        pixels = decode_jpeg(data)
    except CorpusError as error:
        return None, str(error).removeprefix("JPEG: ")
    height, width = pixels.shape[:2]
    if height != width:
        return None, f"the picture is {width}x{height}, not square"
    # Decoders fill the missing part of a cut JPEG with grey and say nothing.
    return height, "" if data.endswith(b"\xff\xd9") else "the JPEG is cut short"


def repeated_keys(table: pa.Table) -> list[Problem]:
    """A problem for every sample whose key an earlier one has."""
    found = table.select(["key", "shard"]).to_pandas()
    again = found[found["key"].duplicated()]
    return [
        Problem(file=shard, key=key, what="the key comes more than once")
        for key, shard in zip(again["key"], again["shard"], strict=True)
    ]


def compare_index(
    folder: Path, paths: list[Path], table: pa.Table, side: int | None
) -> list[Problem]:
    """Problems of the index: missing, damaged, or other than the tars."""
    try:
        index, about = read_index(folder)
    except CorpusError as error:
        return [Problem(file="index.parquet", what=str(error).split(": ", 1)[1])]
    sizes = {path.name: path.stat().st_size for path in paths}
    listed, problems = about["shards"], []
    for name in sorted(sizes.keys() | listed.keys()):
        if name not in sizes:
            what = "is in the index, the file is missing"
        elif name not in listed:
            what = "is not in the index"
        elif sizes[name] != listed[name]:
            what = f"is {sizes[name]} bytes, the index says {listed[name]}"
        else:
            continue
        problems.append(Problem(file=name, what=what))
    if about["side"] != side and side is not None:
        what = f"says that pictures are of {about['side']} pixels; they are of {side}"
        problems.append(Problem(file="index.parquet", what=what))
    if not problems and not same_rows(index, table):
        what = f"does not describe these tars; run norface check {folder} --rebuild-index"
        problems.append(Problem(file="index.parquet", what=what))
    return problems


def same_rows(index: pa.Table, table: pa.Table) -> bool:
    """Whether two tables hold the same, whatever the encoding of their words."""
    if set(index.column_names) != set(table.column_names) or len(index) != len(table):
        return False
    return all(
        index[name].cast(table[name].type).equals(table[name]) for name in table.column_names
    )
