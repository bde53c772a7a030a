"""RecordIO archives of pictures, as MXNet writes them: read and written here without MXNet.

A .rec file is a row of records. A record is one part, or several that belong together:

    4 bytes  0xced7230a, little endian as all numbers here
    4 bytes  flag << 29 | length; flag 0 = a whole record, 1 = first, 2 = middle, 3 = last part
    length bytes, filled with zeros to a multiple of 4

The writer cuts a record wherever the four magic bytes stand at a multiple of 4 in it, and leaves
them out; the reader puts them back between two parts (dmlc/dmlc-core:src/recordio.cc).

What a record holds begins with 24 bytes: flag (uint32), label (float32), id and id2 (uint64 each).
With flag > 0, so many float32 labels follow and the label before them means nothing. The rest is
an encoded picture (apache/mxnet:python/mxnet/recordio.py). The .idx file beside it is a text of
lines `key TAB offset`.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from norface.errors import CorpusError
from norface.images import decode_photo

MAGIC = 0xCED7230A
LONGEST = (1 << 29) - 1
"Bytes that a part can hold."
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_PART = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
WHOLE, FIRST, MIDDLE, LAST = range(4)


class Place(NamedTuple):
    """Where a record lies in its file."""

    offset: int
    "Of its first part's magic number, as in the .idx file."
    length: int
    "Bytes in the file: all parts with their heads and fillings."


class Header(NamedTuple):
    """What stands before the picture."""

    labels: tuple[float, ...]
    "One label, or as many as the flag says."
    is_list: bool
    "Whether the record says that its labels are a list (flag > 0)."
    identifier: int
    picture_size: int
    "Bytes of the encoded picture; 0 for a record that only describes others."


class RecordFile:
    """The records of a .rec file by their offsets. Every method raises CorpusError for damage.

    with RecordFile("train.rec") as file:
        place, header = file.peek(0)
        data = file.read(place)
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self._handle = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise CorpusError(f"{self.path}: cannot be read ({error.strerror})") from None
        self.size = os.fstat(self._handle).st_size

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def parts(self, offset: int) -> Iterator[tuple[int, int]]:
        """(offset, length) of the data of every part of the record that begins at `offset`."""
        start, expected = offset, (WHOLE, FIRST)
        while True:
            head = self._bytes(start, _PART.size)
            magic, word = _PART.unpack(head) if len(head) == _PART.size else (0, 0)
            flag, length = word >> 29, word & LONGEST
            if magic != MAGIC or flag not in expected:
                raise CorpusError(
                    f"{self.path}: no record begins at byte {offset}"
                    if start == offset
                    else f"{self.path}: the record at byte {offset} has no further part at {start}"
                )
            data = start + _PART.size
            start = data + _padded(length)
            if start > self.size:
                raise CorpusError(
                    f"{self.path}: the record at byte {offset} is cut short: it ends at byte"
                    f" {start}, the file at {self.size}"
                )
            yield data, length
            if flag in (WHOLE, LAST):
                return
            expected = (MIDDLE, LAST)

    def measure(self, offset: int) -> Place:
        """Where the record at `offset` ends, from the heads of its parts alone."""
        *_, (data, length) = self.parts(offset)
        return Place(offset, data + _padded(length) - offset)

    def peek(self, offset: int) -> tuple[Place, Header]:
        """Place and header of the record at `offset`, without reading its picture where it can."""
        parts = list(self.parts(offset))
        data, length = parts[-1]
        place = Place(offset, data + _padded(length) - offset)
        if len(parts) > 1:
            record = self.read(place)
            return place, parse_header(record, len(record), self._name(offset))
        record = self._bytes(data, min(length, _HEADER.size + 4 * 16))
        header = _HEADER.unpack_from(record) if len(record) >= _HEADER.size else (0,)
        if (needed := _HEADER.size + 4 * header[0]) > len(record):
            record = self._bytes(data, min(length, needed))
        return place, parse_header(record, length, self._name(offset))

    def read(self, place: Place) -> bytes:
        """The whole record, parts joined."""
        parts = list(self.parts(place.offset))
        return _MAGIC_BYTES.join(self._bytes(*part) for part in parts)

    def _bytes(self, offset: int, count: int) -> bytes:
        try:
            return os.pread(self._handle, count, offset)
        except (OSError, ValueError, OverflowError) as error:
            raise CorpusError(f"{self.path}: byte {offset} cannot be read ({error})") from None

    def _name(self, offset: int) -> str:
        return f"{self.path}: record at byte {offset}"


@dataclasses.dataclass(frozen=True)
class RecordioPicture:
    """A picture in a .rec file (a `StoredPicture`)."""

    path: Path
    offset: int
    "Where the record begins."
    length: int
    "Bytes of the record in the file."

    def __str__(self) -> str:
        return f"{self.path}: record at byte {self.offset}"

    def read(self) -> np.ndarray:
        """Pixels (H, W, 3), uint8, RGB. Raises CorpusError."""
        with RecordFile(self.path) as file:
            record = file.read(Place(self.offset, self.length))
        header = parse_header(record, len(record), str(self))
        return decode_photo(record[len(record) - header.picture_size :], str(self))


def parse_header(record: bytes, size: int, name: str) -> Header:
    """The header of a record of `size` bytes, from its first bytes. Raises CorpusError."""
    if len(record) < _HEADER.size:
        raise CorpusError(f"{name}: {size} bytes hold no picture's header of {_HEADER.size}")
    count, label, identifier, _ = _HEADER.unpack_from(record)
    begin = _HEADER.size + 4 * count
    if begin > len(record):
        raise CorpusError(f"{name}: says that {count} labels follow, but has {size} bytes")
    labels = struct.unpack_from(f"<{count}f", record, _HEADER.size) if count else (label,)
    return Header(labels, count > 0, identifier, size - begin)


def read_offsets(path: str | Path) -> tuple[dict[int, int], list[tuple[int, str]]]:
    """({key: offset}, [(line number, what is wrong with it)]) of an .idx file.

    Of a key that comes twice the first is kept. Raises CorpusError for a file that cannot be read.
    """
    offsets: dict[int, int] = {}
    wrong: list[tuple[int, str]] = []
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise CorpusError(f"{path}: not a text of lines `key TAB offset`") from None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) != 2 or not all(word.isdigit() for word in words):
            wrong.append((number, f"found '{line[:40]}'; expected a key and an offset"))
        elif int(words[0]) in offsets:
            wrong.append((number, f"the key {words[0]} comes more than once"))
        else:
            offsets[int(words[0])] = int(words[1])
    return offsets, wrong


class RecordWriter:
    """Writes a .rec file and, when it is closed, its .idx."""

    def __init__(self, path: str | Path):
        self.path, self.offsets = Path(path), dict[int, int]()
        self._file = open(self.path, "wb")  # noqa: SIM115 - closed by __exit__

    def write(self, key: int, record: bytes) -> None:
        """Append a record."""
        self.offsets[key] = self._file.tell()
        self._file.write(pack_record(record))

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        self._file.close()
        lines = (f"{key}\t{offset}\n" for key, offset in self.offsets.items())
        self.path.with_suffix(".idx").write_text("".join(lines), encoding="ascii")


def pack_record(record: bytes) -> bytes:
    """A record as it stands in the file, cut where it holds the magic number at a multiple of 4."""
    parts, start = [], 0
    for place in range(0, len(record) - 3, 4):
        if record[place : place + 4] == _MAGIC_BYTES:
            parts.append(record[start:place])
            start = place + 4
    parts.append(record[start:])
    flags = [FIRST, *[MIDDLE] * (len(parts) - 2), LAST] if len(parts) > 1 else [WHOLE]
    return b"".join(
        _PART.pack(MAGIC, flag << 29 | len(part)) + part.ljust(_padded(len(part)), b"\0")
        for flag, part in zip(flags, parts, strict=True)
    )


def pack_picture(label: float | Sequence[float], picture: bytes, *, identifier: int = 0) -> bytes:
    """A record of an encoded picture and its label, or its list of labels."""
    if isinstance(label, Sequence):
        head = _HEADER.pack(len(label), 0.0, identifier, 0)
        return head + struct.pack(f"<{len(label)}f", *label) + picture
    return _HEADER.pack(0, label, identifier, 0) + picture


def _padded(length: int) -> int:
    return (length + 3) // 4 * 4
