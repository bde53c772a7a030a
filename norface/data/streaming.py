"""`data.reader: stream`: the tars read one after the other through webdataset.

Where files are far away (object storage behind a mount), random reads are slow and long reads are
fast. A stream reads whole shards in a random order and shuffles within a buffer. What it gives up:
an epoch is not exact, a resumed run goes on with a newly drawn order of shards, and folders are not
mixed by weight.
"""

from __future__ import annotations

import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from torch.utils.data import IterableDataset, get_worker_info

from norface.data.loader import DataConfig, Draw, GlobalBatchSampler, Loader, build_loader
from norface.data.pairing import PairDataset
from norface.data.remote import fetch_missing
from norface.data.shards import ShardIndex
from norface.errors import CorpusError, NorfaceError
from norface.images import decode_jpeg
from norface.training.seeding import sample_key, sample_rng

BUFFER = 500
"Encoded pictures that a reading process holds to shuffle them: about 15 MB at 256 pixels."


class PairStream(IterableDataset[dict[str, Any]]):
    """The pairs of a PairDataset, without end, with originals that are streamed.

    Targets come from the pool by random access; without a pool, a target is the face that came
    before the original in the shuffled stream. Rank r and worker w read their own shards; batches
    of `batch_per_rank` must be made by a DataLoader without a sampler (see `build_pair_loader`).

    Raises CorpusError for a damaged shard, or when there are fewer shards than reading processes.
    """

    def __init__(
        self,
        pairs: PairDataset,
        *,
        batch_per_rank: int,
        rank: int,
        world_size: int,
        start_step: int,
    ):
        self.pairs, self.batch_per_rank = pairs, batch_per_rank
        self.rank, self.world_size, self.start_step = rank, world_size, start_step

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        faces = self.stream(self.rank * workers + number, self.world_size * workers)
        before = next(faces)
        for count, (row, pixels) in enumerate(faces):
            # A loader takes batches from its workers in turn, so the step of each is known.
            batch, place = divmod(count, self.batch_per_rank)
            step = self.start_step + batch * workers + number
            position = (step * self.world_size + self.rank) * self.batch_per_rank + place
            yield self.pairs.pair(Draw(row, 0, position), pixels, other=before)
            before = row, pixels

    def stream(self, part: int, parts: int) -> Iterator[tuple[int, np.ndarray]]:
        """(row, pixels) of the index's samples, for one of `parts` reading processes."""
        index, seed = self.pairs.index, self.pairs.seed
        paths = index.shard_paths
        if len(paths) < parts:
            raise CorpusError(
                f"{index.name}: {len(paths)} shards are fewer than the {parts} processes that"
                " stream them; take fewer workers or data.reader=index"
            )

        def faces() -> Iterator[dict[str, Any]]:
            for epoch in range(2**31):
                order = sample_rng(seed, epoch, self.start_step, "shards").permutation(len(paths))
                for i in order[part::parts]:
                    yield from read_shard(index, paths[i])

        shuffler = random.Random(sample_key(seed, part, self.start_step, "stream"))
        samples = webdataset.DataPipeline(
            faces,
            webdataset.shuffle(BUFFER, initial=BUFFER // 5, rng=shuffler),
        )
        try:
            for sample in samples:
                name = f"{sample['__url__']}: {sample['__key__']}"
                yield sample["row"], decode_jpeg(sample["jpg"], name, side=index.side)
        except NorfaceError:
            raise
        except (tarfile.TarError, OSError, KeyError, ValueError) as error:
            raise CorpusError(
                f"{index.name}: a shard cannot be streamed ({error}); see norface check"
            ) from None


def read_shard(index: ShardIndex, path: Path) -> Iterator[dict[str, Any]]:
    """The samples of one shard that are in the index, as webdataset gives them, with their `row`.

    Raises CorpusError for a file of another length than its index says, for a member whose path
    leaves the folder, and where a sample of the index is missing.
    """
    fetch_missing(path)
    missing = set(index.rows_of_shard(path).tolist())
    for sample in webdataset.tarfile_to_samples()([{"url": str(path)}]):
        key = sample["__key__"]
        if "/" in key or "\\" in key or key.startswith("."):
            raise CorpusError(f"{path}: member '{key}' is not a plain file name; refused")
        if (row := index.find(key)) is not None:
            missing.discard(row)
            yield {**sample, "row": row}
    if missing:
        raise CorpusError(
            f"{path}: {len(missing)} samples of its index are missing, first"
            f" {index.key_of(min(missing))}; see norface check {path.parent}"
        )


def build_pair_loader(
    config: DataConfig,
    pairs: PairDataset,
    *,
    batch_per_rank: int,
    rank: int,
    world_size: int,
    start_step: int = 0,
) -> Loader:
    """Endless batches of pairs from global step `start_step` on, by the reader of the config."""
    if config.reader == "index":
        sampler = GlobalBatchSampler(
            len(pairs),
            batch_per_rank=batch_per_rank,
            rank=rank,
            world_size=world_size,
            seed=pairs.seed,
            start_step=start_step,
            mixture=config.mix(pairs.index),
        )
        return build_loader(pairs, sampler, workers=config.workers)
    stream = PairStream(
        pairs,
        batch_per_rank=batch_per_rank,
        rank=rank,
        world_size=world_size,
        start_step=start_step,
    )
    return Loader(stream, batch_size=batch_per_rank, workers=config.workers)
