"""One shard file: a plain tar of KEY.jpg and KEY.json pairs, written whole or not at all.

    with ShardFile("shards/shard-000000.tar", side=256) as shard:
        shard.write(record)

The bytes depend on the samples alone (no times, no owner), and `webdataset`, `tarfile` and `tar`
read them. What knows of many shards and of the index is in shards.py.
"""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from PIL import Image

from norface.data.records import FaceRecord
from norface.data.remote import fetch_missing
from norface.errors import CorpusError

BLOCK = tarfile.BLOCKSIZE
OPEN_FILES = 128
"Shards that a process keeps open for random access."


class Member(NamedTuple):
    """Where a sample lies in its tar (bytes), and what its json says. The record has no image."""

    record: FaceRecord
    image_offset: int
    image_size: int
    json_offset: int
    json_size: int


class ShardFile:
    """Writes one tar under `NAME.tmp` and renames it when it is whole.

    Leaving the `with` block by an error removes what was written. Raises CorpusError where the disk
    is full, the folder cannot be written, a key comes twice, or a picture is not a whole square
    JPEG of `side` pixels.
    """

    def __init__(self, path: str | Path, *, side: int):
        self.path, self.side = Path(path), side
        self.members: list[Member] = []
        self._keys: set[str] = set()
        self._temporary = self.path.with_name(self.path.name + ".tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: io.BufferedWriter = open(self._temporary, "wb")  # noqa: SIM115
        except OSError as error:
            raise unwritable(self.path, error) from None

    def write(self, record: FaceRecord) -> None:
        """Append one sample; `record.image` is the encoded JPEG."""
        if record.key in self._keys:
            raise CorpusError(f"{self.path}: the key {record.key} comes twice; keys must be unique")
        check_jpeg(record, self.side, self.path)
        image = record.image
        assert isinstance(image, bytes), "check_jpeg lets nothing else pass"
        try:
            image_offset = self._append(f"{record.key}.jpg", image)
            body = record.to_json()
            json_offset = self._append(f"{record.key}.json", body)
        except OSError as error:
            self.discard()
            raise unwritable(self.path, error) from None
        self._keys.add(record.key)
        bare = dataclasses.replace(record, image=None)
        self.members.append(Member(bare, image_offset, len(image), json_offset, len(body)))

    def _append(self, name: str, data: bytes) -> int:
        """Write one tar member; returns the offset of its data."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._file.write(info.tobuf(tarfile.GNU_FORMAT))
        offset = self._file.tell()
        self._file.write(data)
        self._file.write(bytes(-len(data) % BLOCK))
        return offset

    def close(self) -> None:
        """End the tar and give it its name."""
        try:
            self._file.write(bytes(2 * BLOCK))
            self._file.write(bytes(-self._file.tell() % tarfile.RECORDSIZE))
            self._file.close()
            os.replace(self._temporary, self.path)
        except OSError as error:
            self.discard()
            raise unwritable(self.path, error) from None

    def discard(self) -> None:
        """Remove what was written so far."""
        with suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.discard()


def unwritable(path: Path, error: OSError) -> CorpusError:
    """The one-line error for a full disk or a folder without permission."""
    return CorpusError(f"{path}: cannot be written ({error.strerror}); nothing of it was left")


def check_jpeg(record: FaceRecord, side: int, path: Path) -> None:
    """Refuse what is not a whole JPEG of side x side pixels; only its header is decoded."""
    where = f"{path}: {record.key}"
    if not isinstance(record.image, bytes):
        raise CorpusError(f"{where}: has no encoded picture; align it first")
    try:
        picture = Image.open(io.BytesIO(record.image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise CorpusError(f"{where}: the picture is not a readable JPEG") from None
    if picture.format != "JPEG" or picture.size != (side, side):
        raise CorpusError(
            f"{where}: found a {picture.format} of {picture.width}x{picture.height};"
            f" this shard holds JPEG of {side}x{side}"
        )
    if not record.image.endswith(b"\xff\xd9"):
        raise CorpusError(f"{where}: the JPEG is cut short")


def scan_shard(path: Path) -> Iterator[Member]:
    """The members of a shard in their order, from the tar alone.

    Raises CorpusError naming the file and the key for a tar that is cut or damaged, a member with a
    path, a picture without json (or the reverse), or a key that its json contradicts.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            members = iter(tar)
            for image in members:
                key = check_member(path, image, ".jpg")
                json_info = next(members, None)
                if json_info is None:
                    raise CorpusError(f"{path}: {key}: the shard ends before {key}.json; cut short")
                if check_member(path, json_info, ".json") != key:
                    raise CorpusError(
                        f"{path}: {key}.jpg is followed by {json_info.name}, not {key}.json"
                    )
                member = tar.extractfile(json_info)
                assert member is not None, "check_member lets only files pass"
                body = member.read()
                try:
                    record = FaceRecord.from_json(body)
                except CorpusError as error:
                    raise CorpusError(f"{path}: {key}: {error}") from None
                if record.key != key:
                    raise CorpusError(f"{path}: {key}: its json says {record.key}")
                yield Member(
                    record, image.offset_data, image.size, json_info.offset_data, json_info.size
                )
            # tarfile takes a cut or a damaged header for the end: the real end is two empty blocks.
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(2 * BLOCK) != bytes(2 * BLOCK):
                raise CorpusError(f"{path}: cut or damaged at byte {tar.offset}; write it again")
    except tarfile.TarError as error:
        raise CorpusError(f"{path}: cut or damaged ({error}); write it again") from None
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None


def check_member(path: Path, info: tarfile.TarInfo, suffix: str) -> str:
    """The key of a member, refusing what is not a plain file with a plain name."""
    name = info.name
    if "/" in name or "\\" in name or name.startswith(".") or not info.isreg():
        raise CorpusError(f"{path}: member '{name}' is not a plain file name; refused")
    if not name.endswith(suffix):
        raise CorpusError(f"{path}: found member '{name}' where a KEY{suffix} should be")
    return name.removesuffix(suffix)


def check_length(path: Path, found: int, expected: int) -> None:
    """Refuse a shard that is not as many bytes long as its index says."""
    if found != expected:
        raise CorpusError(
            f"{path}: is {found} bytes, its index says {expected}: cut or written again;"
            f" see norface check {path.parent}"
        )


class ShardHandles:
    """Random access to many shards, safe in threads and in forked or spawned workers."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _Handle] = OrderedDict()

    def read(self, path: Path, offset: int, size: int, expected: int) -> bytes:
        """`size` bytes at `offset` of a shard that should be `expected` bytes long."""
        handle = self._open.get(path)
        if handle is None:
            handle = self._open[path] = _Handle(path, expected)
            if len(self._open) > OPEN_FILES:
                with suppress(KeyError):
                    self._open.popitem(last=False)
        # pread keeps no position, so processes that share the handle through fork do not disturb.
        return os.pread(handle.descriptor, size, offset)

    def __reduce__(self) -> tuple[type[ShardHandles], tuple[()]]:
        return ShardHandles, ()


class _Handle:
    """A file that closes when nobody holds it any more."""

    descriptor = -1

    def __init__(self, path: Path, expected: int):
        fetch_missing(path)
        try:
            self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            found = os.fstat(self.descriptor).st_size
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
        check_length(path, found, expected)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
