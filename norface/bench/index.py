"""`norface bench index`: a large index opened in a new process."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from norface.bench.memory import measure_alone
from norface.config import Config
from norface.data.indexing import save_index
from norface.data.labels import DETECTION_UNITS, INTENSITY_UNITS
from norface.data.shards import ShardIndex

GOAL_SECONDS, GOAL_MB = 2.0, 500.0
"For a million samples."
SHARD = 1000
"Samples of a shard in the large index."


class OpenedIndex(Config):
    """How an index was opened."""

    samples: int
    seconds: float
    "Median over the rounds; imports not counted."
    peak_mb: float
    "Highest of the rounds; imports counted."

    def describe(self) -> str:
        """A line for a person."""
        return (
            f"index of {self.samples} samples opened in {self.seconds:.2f} s with"
            f" {self.peak_mb:.0f} MB at most"
            f" (goal for a million: {GOAL_SECONDS:.0f} s, {GOAL_MB:.0f} MB)"
        )


def bench_index(folder: Path, *, samples: int, rounds: int) -> OpenedIndex:
    """Write an index like that of BP4D, of `samples` rows, and open it in new processes."""
    write_large_index(folder, samples)
    found = [measure_alone(open_index, folder) for _ in range(rounds)]
    return OpenedIndex(
        samples=found[0].result[0],
        seconds=float(np.median([one.result[1] for one in found])),
        peak_mb=max(one.peak_mb for one in found),
    )


def open_index(folder: Path) -> tuple[int, float]:
    """(samples, seconds) of an index."""
    began = time.perf_counter()
    index = ShardIndex.open(folder)
    return len(index), time.perf_counter() - began


def write_large_index(folder: Path, samples: int) -> None:
    """An index of 40 persons, 8 clips each, 12 presences and 5 intensities; its tars are empty."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.arange(samples)
    random = np.random.default_rng(0)
    names = [f"shard-{number:06d}.tar" for number in range(-(-samples // SHARD))]
    for name in names:
        (folder / name).touch()
    persons = [f"F{number:03d}" for number in numbers * 40 // samples]
    clips = [f"T{number}" for number in numbers * 320 // samples % 8]
    keys = map("_".join, zip(itertools.repeat("bp4d"), persons, clips, map(str, numbers)))
    columns = {
        "key": pa.array(keys, pa.string()),
        "corpus": pa.array(["bp4d"] * samples),
        "subject": pa.array(persons),
        "clip": pa.array(clips),
        "split": pa.array([""] * samples),
        "emotion": pa.nulls(samples, pa.string()),
        "shard": pa.array([names[number] for number in numbers // SHARD]),
        "frame": pa.array(numbers),
        "image_offset": pa.array(numbers % SHARD * 32_768 + 512),
        "image_size": pa.array(random.integers(20_000, 32_000, samples)),
        "json_offset": pa.array(numbers % SHARD * 32_768 + 32_256),
        "json_size": pa.array(random.integers(120, 200, samples)),
    }
    for unit in DETECTION_UNITS["bp4d"]:
        columns[f"au_{unit}"] = pa.array(random.integers(0, 2, samples, np.int8))
    for unit in INTENSITY_UNITS["bp4d"]:
        values = random.integers(0, 6, samples).astype(np.float32)
        columns[f"intensity_{unit}"] = pa.array(values)
    table = pa.table(columns)
    parts = {name: table.slice(n * SHARD, SHARD) for n, name in enumerate(names)}
    save_index(folder, parts, 256)
