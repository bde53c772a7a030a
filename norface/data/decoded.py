"""Pictures that were decoded once, kept on a local disk: reading one is then one `pread`.

    index = ShardIndex.open("shards")
    index.keep_decoded("/scratch/norface")     # in a config: data.decoded_folder

Decoding JPEG is what a loader of small faces spends its time on. A kept picture takes 3 x side x
side bytes (196 kB at 256 pixels): a corpus of 200,000 faces 40 GB. The file of a folder of shards
grows with what is read, and is named by place, time and contents of its index: what was written
again is decoded again. Processes of one machine share it. Which pictures are there is forgotten
when the machine starts anew, as a crash may lose some of them. Nothing is ever removed: a person
empties the folder.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from norface.data.indexing import INDEX_NAME
from norface.errors import CorpusError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"Another text after every start of the machine (Linux)."


def open_decoded(place: str | Path, folders: Sequence[Path], side: int) -> list[DecodedPictures]:
    """Those of each folder of shards, kept in `place`. Raises CorpusError."""
    indexes = [folder / INDEX_NAME for folder in folders]
    return [
        DecodedPictures(
            Path(place),
            name=_name_of(index),
            samples=pq.read_metadata(index).num_rows,
            side=side,
        )
        for index in indexes
    ]


def _name_of(index: Path) -> str:
    # An index knows keys and sizes, not pixels: pictures of other shards could have the same ones.
    place = f"{index.resolve()} {index.stat().st_mtime_ns} "
    return hashlib.sha256(place.encode() + index.read_bytes()).hexdigest()[:16]


class DecodedPictures:
    """The decoded pictures of one folder of shards; slots count its samples from 0.

    Raises CorpusError for a folder that cannot be written or is full before the first picture.
    """

    def __init__(self, folder: Path, *, name: str, samples: int, side: int):
        self._made_of = (folder, name, samples, side)
        self.side, self.bytes_each = side, 3 * side * side
        self.path = folder / f"{name}.pixels"
        boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else "unknown"
        present = folder / f"{name}.{boot}.present"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Read and written by place: processes that share the files do not share where they are.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            marks = os.open(present, os.O_RDWR | os.O_CREAT, 0o666)
            # Room for the marks now: a write into a map of a full disk would end the process.
            os.posix_fallocate(marks, 0, samples)
            self._present = mmap.mmap(marks, samples)
            os.close(marks)
        except OSError as error:
            raise CorpusError(
                f"{folder}: decoded pictures cannot be kept here ({error.strerror}); set"
                " data.decoded_folder to a folder of a local disk with room, or to null"
            ) from None
        self._is_full = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process opens the files itself.
        return _reopen, self._made_of

    def read(self, slot: int) -> np.ndarray | None:
        """Pixels (side, side, 3), uint8, or None where they are not kept yet."""
        if not self._present[slot]:
            return None
        pixels = np.empty((self.side, self.side, 3), np.uint8)
        found = os.preadv(self._file, [pixels.reshape(-1).data], slot * self.bytes_each)
        return pixels if found == self.bytes_each else None

    def keep(self, slot: int, pixels: np.ndarray) -> None:
        """Write pixels of `read`'s shape. On a full disk: say so once, and keep no more."""
        if self._is_full or pixels.shape != (self.side, self.side, 3):
            return
        data = np.ascontiguousarray(pixels).reshape(-1).data
        try:
            written = os.pwrite(self._file, data, slot * self.bytes_each)
        except OSError as error:
            self._is_full = True
            print(f"{self.path}: no more pictures are kept ({error.strerror})", file=sys.stderr)
            return
        if written == self.bytes_each:
            self._present[slot] = 1


def _reopen(folder: Path, name: str, samples: int, side: int) -> DecodedPictures:
    return DecodedPictures(folder, name=name, samples=samples, side=side)
