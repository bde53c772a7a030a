"""Shards and their index: tars of faces that can be read in any order.

A folder of shards holds `shard-000000.tar` ... and `index.parquet`, one row a sample with the byte
offsets of its picture and its json, so that a job filters by subject without rewriting, reads any
sample with one `pread`, and opens a million rows in about a second.

    with ShardWriter("shards", side=64) as writer:
        for record in records:
            writer.write(record)
    index = ShardIndex.open("shards").select(split="train")
    pixels = index.read_pixels(0)
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from norface.data.decoded import DecodedPictures, open_decoded
from norface.data.indexing import (
    INDEX_NAME,
    list_shards,
    read_index,
    refuse_duplicates,
    to_frame,
    write_index,
)
from norface.data.labels import EMOTIONS
from norface.data.records import FaceRecord
from norface.data.remote import local_folder
from norface.data.shard_writer import ShardWriter
from norface.data.tars import ShardFile, ShardHandles, check_length
from norface.errors import CorpusError
from norface.images import check_size, decode_jpeg

__all__ = ["Person", "ShardFile", "ShardIndex", "ShardWriter", "list_shards", "write_index"]

Person = tuple[str, str]
"(corpus, subject): F001 of BP4D and F001 of BP4D+ are two persons."


class ShardIndex:
    """Samples of one or several folders of shards, or a selection of them. Rows count from 0.

    `table` is a pandas DataFrame: key, corpus, subject, clip, frame, split, shard, image_offset,
    image_size, json_offset, json_size, au_N and intensity_N (float32, NaN = unlabelled), emotion,
    folder (position in `folders`), slot (position in the folder's index). Words other than key are
    categoricals.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        folders: list[Path],
        side: int,
        sizes: dict[tuple[int, str], int],
        handles: ShardHandles,
        decoded: Sequence[DecodedPictures] = (),
    ):
        self.table, self.folders, self.side = table, folders, side
        self._sizes, self._handles, self._decoded = sizes, handles, decoded
        self._keys = pa.array(table["key"], pa.string())
        if isinstance(self._keys, pa.ChunkedArray):
            self._keys = self._keys.combine_chunks()
        self._offset = {
            kind: (table[f"{kind}_offset"].to_numpy(), table[f"{kind}_size"].to_numpy())
            for kind in ("image", "json")
        }
        self._folder = table["folder"].to_numpy()
        self._shard = table["shard"].cat.codes.to_numpy()
        self._slot = table["slot"].to_numpy()
        self._shard_names = list(table["shard"].cat.categories)
        self._rows: pd.Index | None = None

    @classmethod
    def open(
        cls, folders: str | Path | Sequence[str | Path], *, cache: str | Path | None = None
    ) -> ShardIndex:
        """Open the index of one folder, or of several read as one; of a URL through `cache`.

        Raises CorpusError, ConfigError.
        """
        if isinstance(folders, str | Path):
            folders = [folders]
        paths = [local_folder(folder, cache, INDEX_NAME) for folder in folders]
        if not paths:
            raise CorpusError("no folder of shards was given")
        tables: list[pa.Table] = []
        sizes: dict[tuple[int, str], int] = {}
        side = 0
        for number, path in enumerate(paths):
            table, about = read_index(path)
            if side not in (0, about["side"]):
                raise CorpusError(
                    f"{path}: pictures of {about['side']} pixels beside {side} in {paths[0]};"
                    " prepare both at one size"
                )
            side = about["side"]
            sizes |= {(number, name): size for name, size in about["shards"].items()}
            table = table.append_column("folder", pa.array(np.full(len(table), number, np.int16)))
            slots = pa.array(np.arange(len(table), dtype=np.int32))
            tables.append(table.append_column("slot", slots))
        del table
        tables = [pa.concat_tables(tables, promote_options="default")]
        if len(paths) > 1:
            # Within a folder the writer of its index has looked for them.
            refuse_duplicates(tables[0]["key"], " + ".join(map(str, paths)))
        # What reading has left over: a third of the peak with a million rows.
        pa.default_memory_pool().release_unused()
        return cls(
            to_frame(tables.pop()), folders=paths, side=side, sizes=sizes, handles=ShardHandles()
        )

    def __len__(self) -> int:
        return len(self.table)

    def select(
        self,
        subjects: Collection[Person] | None = None,
        split: str | None = None,
        where: np.ndarray | None = None,
    ) -> ShardIndex:
        """The samples of these persons, of this split and where a boolean array (len,) is true.

        Raises CorpusError for a person or a split that this index does not hold.
        """
        keep = np.ones(len(self), bool) if where is None else np.asarray(where, bool)
        if split is not None:
            known = sorted(self.table["split"].unique())
            if split not in known:
                there = ", ".join(filter(None, known)) or "none"
                raise CorpusError(f"{self.name}: no split '{split}'; there are: {there}")
            keep = keep & (self.table["split"] == split).to_numpy()
        if subjects is not None:
            numbers = self._person_numbers()
            found = dict(zip(self._persons_of(numbers), np.unique(numbers), strict=True))
            unknown = sorted(set(subjects) - set(found))
            if unknown:
                raise CorpusError(
                    f"{self.name}: {len(unknown)} persons are not in these shards, first"
                    f" {unknown[0][0]} {unknown[0][1]}"
                )
            keep = keep & np.isin(numbers, [found[person] for person in subjects])
        return ShardIndex(
            self.table[keep].reset_index(drop=True),
            folders=self.folders,
            side=self.side,
            sizes=self._sizes,
            handles=self._handles,
            decoded=self._decoded,
        )

    def keep_decoded(self, folder: str | Path) -> None:
        """From now on, keep every picture that is read, decoded, in this folder.

        So does what is selected from this index later. Raises CorpusError (norface.data.decoded).
        """
        self._decoded = open_decoded(folder, self.folders, self.side)

    @property
    def name(self) -> str:
        """The folders, for messages."""
        return " + ".join(map(str, self.folders))

    @property
    def persons(self) -> list[Person]:
        """All (corpus, subject) of the samples, sorted."""
        return sorted(self._persons_of(self._person_numbers()))

    def _person_numbers(self) -> np.ndarray:
        """One number a person and row: corpus code x subjects + subject code."""
        corpus, subject = self.table["corpus"].cat, self.table["subject"].cat
        return corpus.codes.to_numpy(np.int64) * len(subject.categories) + subject.codes.to_numpy()

    def _persons_of(self, numbers: np.ndarray) -> list[Person]:
        """Persons by their unique number, in the order of the numbers."""
        corpora, subjects = (self.table[word].cat.categories for word in ("corpus", "subject"))
        parts = (divmod(int(number), len(subjects)) for number in np.unique(numbers))
        return [(corpora[corpus], subjects[subject]) for corpus, subject in parts]

    @property
    def digest(self) -> str:
        """sha256 (hex) of the index files: changes when any folder is written again."""
        total = hashlib.sha256()
        for folder in self.folders:
            total.update(hashlib.sha256((folder / INDEX_NAME).read_bytes()).digest())
        return total.hexdigest()

    def key_of(self, row: int) -> str:
        """Key of a row."""
        return self._keys[row].as_py()

    def row_of(self, key: str) -> int:
        """Row of a key. Raises CorpusError for a key that is not here."""
        return int(self.rows_of([key])[0])

    def rows_of(self, keys: Sequence[str]) -> np.ndarray:
        """Rows (len(keys),) of keys: joins an original with its normalized picture."""
        if self._rows is None:
            self._rows = pd.Index(self.table["key"])
        rows = self._rows.get_indexer(keys)
        if (rows < 0).any():
            missing = [key for key, row in zip(keys, rows, strict=True) if row < 0]
            raise CorpusError(f"{self.name}: {len(missing)} keys are missing, first {missing[0]}")
        return rows

    def rows_of_persons(self, persons: Collection[Person]) -> np.ndarray:
        """Rows of all samples of these persons, ascending; of those who are not here, none."""
        numbers = self._person_numbers()
        known = zip(self._persons_of(numbers), np.unique(numbers), strict=True)
        wanted = set(persons)
        return np.flatnonzero(np.isin(numbers, [one for person, one in known if person in wanted]))

    def find(self, key: str) -> int | None:
        """Row of a key, None where it is not here."""
        if self._rows is None:
            self._rows = pd.Index(self.table["key"])
        try:
            return int(self._rows.get_loc(key))
        except KeyError:
            return None

    @property
    def shard_paths(self) -> list[Path]:
        """The files that hold these samples, in the order of folders and names."""
        pairs = self.table[["folder", "shard"]].drop_duplicates()
        found = zip(pairs["folder"], pairs["shard"].astype(str), strict=True)
        return [self.folders[folder] / name for folder, name in sorted(found)]

    def rows_of_shard(self, path: Path) -> np.ndarray:
        """Rows of the samples in one of `shard_paths`, before it is read in one go.

        Raises CorpusError for a file that is not there or not as long as its index says.
        """
        folder = self.folders.index(path.parent)
        try:
            check_length(path, path.stat().st_size, self._sizes[folder, path.name])
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
        here = (self._folder == folder) & (self.table["shard"] == path.name).to_numpy()
        return np.flatnonzero(here)

    def labels(self, kind: str, units: Sequence[int]) -> np.ndarray:
        """float32 (len, units): 0/1 (kind "au") or 0..5 ("intensity"), NaN = unlabelled."""
        found = np.full((len(self), len(units)), np.nan, np.float32)
        for column, unit in enumerate(units):
            if f"{kind}_{unit}" in self.table:
                found[:, column] = self.table[f"{kind}_{unit}"]
        return found

    def emotions(self) -> np.ndarray:
        """int64 (len,): position in labels.EMOTIONS, -1 = unlabelled."""
        order = {emotion: number for number, emotion in enumerate(EMOTIONS)}
        categories = self.table["emotion"].cat.categories
        numbers = np.array([order[emotion] for emotion in categories] + [-1], np.int64)
        return numbers[self.table["emotion"].cat.codes.to_numpy()]

    def read_pixels(self, row: int) -> np.ndarray:
        """The aligned picture, uint8 (side, side, 3). Raises CorpusError naming file and key."""
        if not self._decoded:
            return self._decode(row)
        kept, slot = self._decoded[self._folder[row]], self._slot[row]
        pixels = kept.read(slot)
        if pixels is None:
            pixels = self._decode(row)
            kept.keep(slot, pixels)
        return pixels

    def _decode(self, row: int) -> np.ndarray:
        return decode_jpeg(self._read(row, "image"), self.where(row), side=self.side)

    def read_record(self, row: int) -> FaceRecord:
        """The whole sample: labels, landmarks, pose, and the encoded picture.

        Raises CorpusError naming file and key, also for a picture of another side by its header.
        """
        image = self._read(row, "image")
        if what := check_size(image, self.side):
            raise CorpusError(f"{self.where(row)}: {what}")
        try:
            return FaceRecord.from_json(self._read(row, "json"), image=image)
        except CorpusError as error:
            raise CorpusError(f"{self.where(row)}: {error}") from None

    def where(self, row: int) -> str:
        """Shard file and key of a row, for messages."""
        return f"{self._path(row)}: {self.key_of(row)}"

    def _path(self, row: int) -> Path:
        return self.folders[self._folder[row]] / self._shard_names[self._shard[row]]

    def _read(self, row: int, kind: str) -> bytes:
        offsets, sizes = self._offset[kind]
        expected = self._sizes[self._folder[row], self._shard_names[self._shard[row]]]
        data = self._handles.read(self._path(row), int(offsets[row]), int(sizes[row]), expected)
        if len(data) != sizes[row]:
            raise CorpusError(f"{self.where(row)}: the shard ends inside this sample; cut short")
        return data
