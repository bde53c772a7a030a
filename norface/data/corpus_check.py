"""What a corpus in its official layout holds and lacks, before hours are spent on preparing it.

report = check_corpus(open_corpus("disfa", "/data/DISFA"), decode=True, workers=8)
report.sound
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from norface.data.corpora.base import CorpusReader
from norface.data.corpus_report import CorpusReport, Count, Finding
from norface.data.in_order import run_in_order
from norface.data.indexing import build_table, join_tables, to_frame
from norface.data.label_counts import count_labels, count_parts, count_splits
from norface.data.pictures import cut_pieces, picture_place, read_picture
from norface.data.records import FaceRecord, StoredPicture
from norface.data.rehearsal import read_marker
from norface.data.tars import Member
from norface.errors import CorpusError

TABLE_ROWS = 10_000
"Records that are held as objects before they become rows of a table."


def check_corpus(
    reader: CorpusReader,
    *,
    decode: bool = False,
    workers: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> CorpusReport:
    """Read all samples; `advance` is called with numbers of samples that are done.

    Raises CorpusError for a folder that is not this corpus.
    """
    found: dict[str, list[Finding]] = {"missing": [], "damaged": [], "same_pictures": []}
    tables: list[pa.Table] = []
    members: list[Member] = []
    first: dict[bytes, str] = {}
    look = _start_decoding if decode else _start_looking
    for piece, looks in run_in_order(cut_pieces(reader.read()), look, workers=workers):
        for record, (kind, what, digest) in zip(piece, looks, strict=True):
            if kind:
                found[kind].append(Finding(place=picture_place(record), what=what))
            if digest and (before := first.setdefault(digest, record.key)) != record.key:
                same = Finding(place=picture_place(record), what=f"the picture of {before}")
                found["same_pictures"].append(same)
            members.append(Member(record, 0, 0, 0, 0))
        if len(members) >= TABLE_ROWS:
            tables.append(build_table("", members))
            members = []
        advance(len(piece))
    tables.append(build_table("", members))
    frame = to_frame(join_tables(tables))
    return CorpusReport(
        corpus=reader.name,
        root=str(reader.root),
        rehearsal=read_marker(reader.root) is not None,
        decoded=decode,
        published=compare_published(reader, frame),
        splits=count_splits(frame),
        all=count_labels(frame),
        by_part=count_parts(frame),
        left_out=dict(reader.left_out),
        problems=[Finding(place=one.place, what=one.what) for one in reader.problems],
        **found,
    )


def compare_published(reader: CorpusReader, frame: pd.DataFrame) -> list[Count]:
    """The reader's published numbers beside those of its samples. Raises CorpusError."""
    counts = []
    for what, published in reader.published.items():
        kind, _, split = what.partition("/")
        rows = frame[frame["split"] == split] if split else frame
        if kind not in ("samples", "subjects"):
            raise CorpusError(f"{reader.name}: cannot count the published '{what}'")
        number = len(rows) if kind == "samples" else _subjects(rows)
        counts.append(Count(what=what, found=number, published=published))
    return counts


def _subjects(frame: pd.DataFrame) -> int:
    return len(frame[["corpus", "subject"]].drop_duplicates())


Look = tuple[str, str, bytes]
"(missing, damaged or nothing; what it is, in words; digest of a picture that was decoded)."


def _start_looking() -> Callable[[list[FaceRecord]], list[Look]]:
    return lambda records: [look_for(record) for record in records]


def _start_decoding() -> Callable[[list[FaceRecord]], list[Look]]:
    return lambda records: list(_decode(records))


def look_for(record: FaceRecord) -> Look:
    """Whether a picture's file is there, without reading it."""
    image = record.image
    if image is None:
        return "missing", "the sample has no picture", b""
    path = image if isinstance(image, Path) else getattr(image, "path", None)
    if isinstance(path, Path):
        if not path.is_file():
            return "missing", "no such file", b""
        if path.stat().st_size == 0:
            return "damaged", "the file is empty", b""
    return "", "", b""


def _decode(records: list[FaceRecord]) -> Iterator[Look]:
    for record in records:
        look = look_for(record)
        if not look[0]:
            try:
                look = "", "", _digest(record)
            except CorpusError as error:
                what = str(error).removeprefix(f"{picture_place(record)}: ")
                look = "damaged", what, b""
        yield look


def _digest(record: FaceRecord) -> bytes:
    """Digest of the encoded picture, or of its pixels where it lies in a larger file."""
    pixels, image = read_picture(record), record.image
    if isinstance(image, StoredPicture):
        data = str(pixels.shape).encode() + pixels.tobytes()
    else:
        data = image.read_bytes() if isinstance(image, Path) else image or b""
    return hashlib.blake2b(data, digest_size=12).digest()
