"""Memory while an epoch is read through the index (part of `norface bench loading`)."""

from __future__ import annotations

import itertools
from pathlib import Path

from norface.bench.memory import measure_alone, resident_mb
from norface.config import Config
from norface.data.indexing import NUMBERS, build_table, read_index, save_index, shard_side
from norface.data.loader import GlobalBatchSampler
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex
from norface.data.tars import Member


class Epoch(Config):
    """Memory over an epoch."""

    samples: int
    first_mb: float
    "After the first tenth of it."
    last_mb: float
    "At its end."

    def describe(self) -> str:
        """A line for a person."""
        return (
            f"memory over an epoch of {self.samples} samples: {self.first_mb:.0f} MB after a tenth,"
            f" {self.last_mb:.0f} MB at its end"
        )


def bench_epoch(shards: Path, folder: Path, *, samples: int, batch: int) -> Epoch:
    """Read an epoch of `samples` rows, which repeat the pictures of `shards`, undecoded."""
    source = read_index(shards)[0].select(["shard", *NUMBERS[1:]]).to_pylist()
    members: dict[str, list[Member]] = {}
    for number in range(samples):
        row = source[number % len(source)]
        record = FaceRecord("bench", f"S{number % 100}", "c", number)
        places = [row[name] for name in NUMBERS[1:]]
        members.setdefault(row["shard"], []).append(Member(record, *places))
    folder.mkdir(parents=True, exist_ok=True)
    for name in members:
        (folder / name).symlink_to((shards / name).resolve())
    tables = {name: build_table(name, some) for name, some in members.items()}
    save_index(folder, tables, shard_side(shards / next(iter(members))))
    first, last = measure_alone(read_epoch, folder, batch).result
    return Epoch(samples=samples, first_mb=first, last_mb=last)


def read_epoch(folder: Path, batch: int) -> tuple[float, float]:
    """(MB after a tenth, MB at the end) of reading every sample once in a random order."""
    index = ShardIndex.open(folder)
    sampler = GlobalBatchSampler(len(index), batch_per_rank=batch, rank=0, world_size=1, seed=0)
    tenth, first = max(sampler.steps_per_epoch // 10, 1), 0.0
    for step, draws in enumerate(itertools.islice(sampler, sampler.steps_per_epoch)):
        for draw in draws:
            index.read_record(draw.row)
        if step + 1 == tenth:
            first = resident_mb()
    return first, resident_mb()
