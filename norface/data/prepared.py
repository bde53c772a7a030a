"""The folder of a preparation on its way: blocks of photographs, each done or not, then one whole.

Block N is the photographs N x samples_per_shard ... of the corpus; it becomes `shard-N.tar` and an
entry in `.preparation/`, which is written last and so says that the block is done. What a block
holds depends on the corpus and the settings alone, never on the job that made it; that is why any
number of jobs, stopped and started in any order, end in the same bytes. `finish` joins the entries
to the index and the lists, and takes `.preparation/` away.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from norface.config import Config
from norface.data.aligning import Outcome, PreparationConfig
from norface.data.corpora.base import Problem
from norface.data.detection import DetectorChoice
from norface.data.indexing import INDEX_NAME, build_table, list_shards, save_index
from norface.data.pictures import picture_place
from norface.data.records import FaceRecord
from norface.data.rehearsal import Rehearsal, write_marker
from norface.data.shards import ShardIndex
from norface.data.tars import ShardFile
from norface.errors import CorpusError
from norface.images import make_grid, resize_pixels, write_png

STATE = ".preparation"
"Folder of the entries, inside the folder of the shards, until all is done."
CARD, REJECTS, NOTES, SHEET = "preparation.json", "rejects.csv", "notes.csv", "contact_sheet.png"
GO_ON = (
    "make room or choose another OUT, and run the same command again: what is whole is kept there"
)
SHEET_FACES, SHEET_COLUMNS, SHEET_SIDE = 80, 10, 128


class Plan(Config):
    """What is prepared, and how: two jobs with the same plan work on the same shards."""

    config: PreparationConfig
    detector: str
    weights: str
    "First 12 hex digits of the sha256 of the detector's file."
    samples: int
    subjects: int
    keys: str
    "sha256 of all keys in their order."
    rehearsal: Rehearsal | None = None
    "What the photographs rehearse, where they are synthetic faces in a corpus's layout."

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.samples // self.config.samples_per_shard)

    def block_size(self, number: int) -> int:
        """Photographs of a block."""
        size = self.config.samples_per_shard
        return min(size, self.samples - number * size)


class KeyDigest:
    """sha256 over the keys of records that pass by, and their number."""

    def __init__(self) -> None:
        self._digest, self.count = hashlib.sha256(), 0

    def watch(self, records: Iterable[FaceRecord]) -> Iterator[FaceRecord]:
        """Pass the records on."""
        for record in records:
            self._digest.update(record.key.encode() + b"\n")
            self.count += 1
            yield record

    def hexdigest(self) -> str:
        """64 hex digits."""
        return self._digest.hexdigest()


def make_plan(
    records: Iterable[FaceRecord],
    config: PreparationConfig,
    choice: DetectorChoice,
    rehearsal: Rehearsal | None = None,
) -> Plan:
    """Pass over the records once, without keeping them."""
    keys = KeyDigest()
    people = {(record.corpus, record.subject) for record in keys.watch(records)}
    with open(choice.weights, "rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return Plan(
        config=config, detector=choice.name, weights=weights,
        samples=keys.count, subjects=len(people), keys=keys.hexdigest(), rehearsal=rehearsal,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is known of a block that is done."""

    table: pa.Table
    "Its rows of the index."
    rejects: list[list[str]]
    "(path, key, reason) of what was left out."
    notes: list[list[str]]
    "(path, key, note) of what was kept and was odd."
    size: int
    "Bytes of its shard, 0 = it has none."


class PreparedFolder:
    """The folder OUT of one plan."""

    def __init__(self, folder: str | Path, plan: Plan):
        self.folder, self.plan = Path(folder), plan
        self.state = self.folder / STATE

    @property
    def finished(self) -> bool:
        """Whether all blocks are done and joined."""
        return (self.folder / INDEX_NAME).is_file() and not self.state.exists()

    @property
    def begun(self) -> bool:
        """Whether it belongs to a plan, this one or another."""
        return (self.state / CARD).is_file() or (self.folder / CARD).is_file()

    def begin(self) -> None:
        """Make the folder, or go on in one of the same plan.

        Raises CorpusError for a folder with other shards, or begun with other settings.
        """
        begun = self.state / CARD
        there = begun if begun.is_file() else self.folder / CARD
        if there.is_file():
            self._compare(there)
        elif list_shards(self.folder) or (self.folder / INDEX_NAME).exists():
            raise CorpusError(f"{self.folder}: holds other shards; choose another folder")
        if not self.finished and not begun.is_file():
            with writing(begun):
                self.state.mkdir(parents=True, exist_ok=True)
                write_marker(self.folder, self.plan.rehearsal)
                self._write(begun, lambda path: path.write_text(self.plan.model_dump_json()))

    def _compare(self, card: Path) -> None:
        try:
            there = Plan.model_validate_json(card.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError):
            raise CorpusError(f"{card}: damaged; choose another folder") from None
        if there == self.plan:
            return
        old, new = ({**p.model_dump(), **p.config.model_dump()} for p in (there, self.plan))
        names = [name for name in new if name != "config" and old[name] != new[name]]
        said = {
            "keys": "other photographs",
            "weights": "another file of the detector",
            "rehearsal": "the faces of a rehearsal" if there.rehearsal else "no rehearsal's faces",
        }
        what = said.get(names[0], f"{names[0]} {old[names[0]]}, not {new[names[0]]}")
        already = "already holds finished shards" if self.finished else "was begun"
        raise CorpusError(
            f"{self.folder}: {already} with {what}; choose another folder or the same settings"
        )

    def is_done(self, number: int) -> bool:
        """Whether a block needs no more work."""
        return self._entry_path(number).is_file()

    def _entry_path(self, number: int) -> Path:
        return self.state / f"{number:06d}.parquet"

    def write_block(self, number: int, results: Iterable[tuple[FaceRecord, Outcome]]) -> None:
        """Write the shard of a block as its pictures arrive, then its entry.

        A block without a single face has an entry and no shard.
        """
        name = shard_name(number)
        shard: ShardFile | None = None
        lists: dict[str, Any] = {"rejects": [], "notes": [], "bytes": 0}
        try:
            for record, outcome in results:
                about = [picture_place(record), record.key]
                if outcome.jpeg is None:
                    lists["rejects"].append([*about, outcome.reason])
                    continue
                if outcome.note:
                    lists["notes"].append([*about, outcome.note])
                if shard is None:
                    shard = ShardFile(self.folder / name, side=self.plan.config.side)
                shard.write(dataclasses.replace(record, image=outcome.jpeg))
        except BaseException:
            if shard is not None:
                shard.discard()
            raise
        if shard is not None:
            shard.close()
            lists["bytes"] = shard.path.stat().st_size
        table = build_table(name, shard.members if shard is not None else [])
        table = table.replace_schema_metadata({b"lists": json.dumps(lists).encode()})
        entry = self._entry_path(number)
        with writing(entry):
            self._write(entry, lambda path: pq.write_table(table, path))

    def read_entry(self, number: int) -> Entry:
        """The entry of a block. Raises CorpusError for a damaged one."""
        path = self._entry_path(number)
        try:
            table = pq.read_table(path)
            lists = json.loads(table.schema.metadata[b"lists"])
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
            raise CorpusError(f"{path}: damaged; remove it and run the command again") from None
        bare = table.replace_schema_metadata(None)
        return Entry(bare, lists["rejects"], lists["notes"], lists["bytes"])

    def count(self, numbers: Iterable[int]) -> tuple[int, int, int]:
        """Photographs of these blocks that were (kept, rejected, noted)."""
        entries = [self.read_entry(number) for number in numbers if self.is_done(number)]
        return (
            sum(len(entry.table) for entry in entries),
            sum(len(entry.rejects) for entry in entries),
            sum(len(entry.notes) for entry in entries),
        )

    def finish(self, problems: Sequence[Problem]) -> None:
        """Write index, lists and contact sheet, once all blocks are done.

        Two jobs may both find that they are the last: they write the same bytes, and the slower
        one finds the work done. Raises CorpusError where no photograph at all was kept.
        """
        entries = [self.read_entry(number) for number in range(self.plan.blocks)]
        for number, entry in enumerate(entries):
            self._check_shard(number, entry)
        rejects = [row for entry in entries for row in entry.rejects]
        self._write_list(REJECTS, "reason", [[p.place, "", p.what] for p in problems] + rejects)
        self._write_list(NOTES, "note", [row for entry in entries for row in entry.notes])
        if len(rejects) == self.plan.samples:
            self._tidy()
            raise CorpusError(
                f"none of {self.plan.samples} photographs was kept (reasons in"
                f" {self.folder / REJECTS}); {rejects[0][0]}: {rejects[0][2]}"
            )
        tables = {entry.table["shard"][0].as_py(): entry.table for entry in entries if entry.size}
        save_index(self.folder, tables, self.plan.config.side)
        with writing(self.folder / SHEET):
            self._write(self.folder / SHEET, lambda path: write_sheet(self.folder, path))
            text = self.plan.model_dump_json(indent=2) + "\n"
            self._write(self.folder / CARD, lambda path: path.write_text(text))
        self._tidy()

    def _check_shard(self, number: int, entry: Entry) -> None:
        """Forget a block whose shard is not as it was written (removed, or two jobs wrote it)."""
        path = self.folder / shard_name(number)
        found = path.stat().st_size if path.is_file() else 0
        if found != entry.size:
            self._entry_path(number).unlink(missing_ok=True)
            raise CorpusError(
                f"{path}: is {found} bytes, was written with {entry.size}; run the same command"
                " again to write it anew"
            )

    def _tidy(self) -> None:
        """Take the entries away, at once or not at all."""
        aside = self.folder / f"{STATE}-done"
        shutil.rmtree(aside, ignore_errors=True)
        with writing(aside):
            self.state.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        # Of a job that was killed while it wrote the index.
        for path in self.folder.glob(f"{INDEX_NAME}.*.tmp"):
            path.unlink(missing_ok=True)

    def _write_list(self, name: str, column: str, rows: list[list[str]]) -> None:
        def write(path: Path) -> None:
            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([["path", "key", column], *rows])

        with writing(self.folder / name):
            self._write(self.folder / name, write)

    def _write(self, path: Path, write: Callable[[Path], Any]) -> None:
        """Write beside the entries, under a name of this process, and rename."""
        aside = self.state / f"{os.uname().nodename}-{os.getpid()}{path.suffix}"
        try:
            write(aside)
            os.replace(aside, path)
        finally:
            with suppress(OSError):
                aside.unlink()


def shard_name(block: int) -> str:
    """File name of a block's shard."""
    return f"shard-{block:06d}.tar"


def write_sheet(folder: Path, path: Path) -> None:
    """A picture of up to 80 aligned faces, spread evenly over the shards."""
    index = ShardIndex.open(folder)
    count = min(len(index), SHEET_FACES)
    rows = np.linspace(0, len(index) - 1, count).round().astype(int)
    faces = [resize_pixels(index.read_pixels(int(row)), SHEET_SIDE) for row in rows]
    lines = [faces[i : i + SHEET_COLUMNS] for i in range(0, count, SHEET_COLUMNS)]
    write_png(path, make_grid(lines))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The one-line error for a full disk or a folder without permission."""
    try:
        yield
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written ({error.strerror}); {GO_ON}") from None
