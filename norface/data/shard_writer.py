"""Writing shards: fills tars one after the other; shards.py is the way to use it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import pyarrow as pa

from norface.data.indexing import build_table, list_shards, save_index, shard_side
from norface.data.records import FaceRecord
from norface.data.tars import ShardFile, scan_shard
from norface.errors import CorpusError


class ShardWriter:
    """Fills shards one after the other and writes the index at the end.

    With `resume`, whole shards that a killed run left are kept: `done` samples are there already,
    and the caller goes on with its sample number `done`. Leaving the `with` block by an error keeps
    the whole shards, removes the begun one and writes no index.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        side: int = 256,
        samples_per_shard: int = 1000,
        prefix: str = "shard",
        resume: bool = False,
    ):
        self.folder, self.side, self.prefix = Path(folder), side, prefix
        self.samples_per_shard = samples_per_shard
        self.done = 0
        self._tables: dict[str, pa.Table] = {}
        self._keys: set[str] = set()
        self._current: ShardFile | None = None
        found = list_shards(self.folder)
        if found and not resume:
            raise CorpusError(
                f"{self.folder}: already holds {len(found)} shards; choose another folder"
            )
        for number, path in enumerate(found):
            if path.name != self._name(number):
                raise CorpusError(f"{path}: expected {self._name(number)}; remove what is odd")
            self._tables[path.name] = build_table(path.name, scan_shard(path))
            self._keys.update(self._tables[path.name]["key"].to_pylist())
        self.done = len(self._keys)
        if found and (there := shard_side(found[0])) != side:
            raise CorpusError(f"{found[0]}: holds pictures of {there} pixels, not of {side}")

    def _name(self, number: int) -> str:
        return f"{self.prefix}-{number:06d}.tar"

    def write(self, record: FaceRecord) -> None:
        """Append one sample; `record.image` is the encoded JPEG of the aligned picture."""
        if record.key in self._keys:
            raise CorpusError(
                f"{self.folder}: the key {record.key} comes twice; keys must be unique"
            )
        if self._current is None:
            path = self.folder / self._name(len(self._tables))
            self._current = ShardFile(path, side=self.side)
        self._current.write(record)
        self._keys.add(record.key)
        if len(self._current.members) == self.samples_per_shard:
            self._finish_shard()

    def _finish_shard(self) -> None:
        if self._current is not None:
            self._current.close()
            name = self._current.path.name
            self._tables[name] = build_table(name, self._current.members)
            self._current = None

    def close(self) -> None:
        """Finish the last shard and write the index."""
        self._finish_shard()
        if not self._tables:
            raise CorpusError(f"{self.folder}: no sample was written")
        save_index(self.folder, self._tables, self.side)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._current is not None:
            self._current.discard()
