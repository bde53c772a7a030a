"""Samples in the right order: exact epochs, equal for any number of ranks, resumed by step alone.

index = config.open()
dataset = FaceDataset(index, side=64, seed=0)
sampler = GlobalBatchSampler(
    len(index), batch_per_rank=8, rank=0, world_size=1, seed=0, start_step=120
)
for batch in build_loader(dataset, sampler, workers=2): ...   # without end
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from pydantic import Field, model_validator
from torch.utils.data import DataLoader, Dataset, Sampler

from norface.config import Config, Misfit
from norface.data.handover import Handover, Parcel, forget_workers
from norface.data.mixture import Mixture, shuffle
from norface.data.remote import ShardPlace
from norface.data.selecting import LabelKind, labelled_rows
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, CorpusError, NorfaceError
from norface.images import mirror_pixels, pack_pixels, resize_pixels
from norface.training.preemption import ignore_stop_signals
from norface.training.seeding import sample_key, sample_rng


class DataConfig(Config):
    """Which samples to read, and how."""

    shards: list[ShardPlace] = Field(min_length=1)
    "Folders of shards, read as one; also URLs (s3://bucket/shards), see norface.data.remote."
    cache_folder: Path | None = None
    "Where shards behind URLs are kept: a folder on a local disk that can hold what is read."
    decoded_folder: Path | None = None
    """Where decoded pictures are kept, a folder on a local disk: later epochs and runs decode no
    JPEG. 3 x side x side bytes a picture, 20 GB for 100,000 of 256 pixels; null = nowhere."""
    workers: int = Field(0, ge=0)
    "Processes that read and decode beside each rank; 0 = in the training process itself."
    reader: Literal["index", "stream"] = "index"
    "index = random access, exact epochs and resume; stream = tars in a row through webdataset."
    weights: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    """How often each folder of `shards` is read, one number a folder, in any unit: [1, 1] reads two
    folders equally often, whatever they hold; null = every sample equally often."""
    split: str | None = None
    "Only this official split (train, test); null = all."
    subjects: list[str] | None = None
    "Only these persons, each written corpus/subject; null = all."
    labelled: LabelKind | None = None
    "Only samples with a label of this kind (au, intensity, emotion); null = all."

    @model_validator(mode="after")
    def _check_weights(self) -> DataConfig:
        if self.weights is not None and len(self.weights) != len(self.shards):
            raise Misfit(
                f"'.weights' has {len(self.weights)} numbers, '.shards' {len(self.shards)} folders;"
                " give one weight a folder"
            )
        if self.weights is not None and self.reader == "stream":
            raise Misfit("'.weights': only '.reader' index mixes by weight; set that or no weights")
        return self

    def open(self) -> ShardIndex:
        """The index of the chosen samples. Raises CorpusError, ConfigError."""
        persons = None
        if self.subjects is not None:
            persons = [parse_person(person) for person in self.subjects]
        index = ShardIndex.open(self.shards, cache=self.cache_folder)
        if self.decoded_folder is not None:
            index.keep_decoded(self.decoded_folder)
        where = None if self.labelled is None else labelled_rows(index, self.labelled)
        return index.select(persons, self.split, where)

    def mix(self, index: ShardIndex) -> Mixture | None:
        """The mixture of `open`'s samples, or of a selection of them; None without weights."""
        if self.weights is None:
            return None
        return Mixture(index.table["folder"].to_numpy(), self.weights)


def parse_person(text: str) -> tuple[str, str]:
    """'corpus/subject' => (corpus, subject). Raises ConfigError."""
    corpus, slash, subject = text.partition("/")
    if not slash or "/" in subject:
        raise ConfigError(f"subjects: found '{text}'; expected corpus/subject")
    return corpus, subject


class Draw(NamedTuple):
    """One sample to read: its row in the index and its place in the global order."""

    row: int
    epoch: int
    position: int
    "Place in the epoch's global order; with seed and epoch it keys all random draws of the sample."
    partner: int = -1
    "Row of the sample of the same global batch to mix it with; -1 = none was drawn."


class GlobalBatchSampler(Sampler[list[Draw]]):
    """Endless batches of one rank, from global step `start_step` on.

    Every epoch is a permutation keyed by (seed, epoch), cut into global batches of batch_per_rank x
    world_size; rank r takes the r-th contiguous part of each. The last partial global batch of an
    epoch is dropped; all other samples come exactly once an epoch. With `partners`, each draw names
    another sample of its global batch (a permutation keyed by the step), wherever its rank may be.
    With a `mixture` of these samples, an epoch is a permutation of its rows instead: as many, but
    some come several times and some not at all. The step is all that a resumed run must know.

    Raises CorpusError when there are fewer samples than one global batch holds.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_per_rank: int,
        rank: int,
        world_size: int,
        seed: int,
        shuffle: bool = True,
        start_step: int = 0,
        partners: bool = False,
        mixture: Mixture | None = None,
    ):
        self.global_batch = batch_per_rank * world_size
        if length < self.global_batch:
            raise CorpusError(
                f"{length} samples are fewer than one global batch of {self.global_batch}"
                f" ({world_size} ranks x {batch_per_rank}); choose more data or a smaller batch"
            )
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.start_step, self.partners, self.mixture = start_step, partners, mixture
        self._part = slice(rank * batch_per_rank, (rank + 1) * batch_per_rank)

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in one epoch."""
        return self.length // self.global_batch

    def order(self, epoch: int) -> np.ndarray:
        """Rows (length,) in the global order of an epoch."""
        rows = np.arange(self.length)
        if self.mixture is not None:
            rows = self.mixture.draw_epoch(seed=self.seed, epoch=epoch)
        return rows[shuffle(self.length, self.seed, epoch, "order")] if self.shuffle else rows

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, first = divmod(self.start_step, self.steps_per_epoch)
        while True:
            order = self.order(epoch)
            for step in range(first, self.steps_per_epoch):
                yield self._batch(order, epoch, step)
            epoch, first = epoch + 1, 0

    def _batch(self, order: np.ndarray, epoch: int, step: int) -> list[Draw]:
        start = step * self.global_batch
        rows = order[start : start + self.global_batch]
        partners = np.full(self.global_batch, -1)
        if self.partners:
            generator = np.random.PCG64(sample_key(self.seed, epoch, start, "partners"))
            partners = rows[np.random.Generator(generator).permutation(self.global_batch)]
        return [
            Draw(int(row), epoch, start + position, int(partner))
            for position, row, partner in zip(
                range(self._part.start, self._part.stop),
                rows[self._part],
                partners[self._part],
                strict=True,
            )
        ]


def every_sample_once(length: int, rank: int, world_size: int) -> list[int]:
    """Rows of a rank's contiguous share, for evaluation: none twice, none left out."""
    return list(range(rank * length // world_size, (rank + 1) * length // world_size))


def batches_once(rows: Sequence[int], *, batch: int) -> list[list[Draw]]:
    """Rows in their order as batches for `build_loader`; the last may be smaller."""
    draws = [Draw(row, 0, row) for row in rows]
    return [draws[start : start + batch] for start in range(0, len(draws), batch)]


def build_loader(
    dataset: Dataset[Any],
    sampler: Iterable[list[Draw]],
    *,
    workers: int,
) -> Loader:
    """A loader of batches in the sampler's order; workers change the speed, never the batches."""
    return Loader(dataset, batch_sampler=sampler, workers=workers)


class Loader(DataLoader[Any]):
    """torch's DataLoader, with the settings and the errors that every loader here shares.

    A batch is what `stack_samples` makes of samples with the same names.
    """

    def __init__(self, dataset: Dataset[Any], *, workers: int, **options: Any):
        super().__init__(
            dataset,
            num_workers=workers,
            collate_fn=Handover(),
            worker_init_fn=_start_worker,
            pin_memory=torch.cuda.is_available(),
            # Else an iterator consumes the global generator, and a resumed run draws otherwise.
            generator=torch.Generator().manual_seed(0),
            **options,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        iterator = super().__iter__()
        _reading.add(iterator)
        try:
            for batch in iterator:
                yield batch.open() if isinstance(batch, Parcel) else batch
        except NorfaceError as error:
            # A worker's error arrives with its traceback: the user's mistake is its last line.
            line = str(error).strip().splitlines()[-1]
            raise type(error)(
                line.removeprefix(f"norface.errors.{type(error).__name__}: ")
            ) from None
        finally:
            _end_workers(iterator)


_reading: weakref.WeakSet[Any] = weakref.WeakSet()
"Iterators of loaders that may have workers."


def _end_workers(iterator: Any) -> None:
    """Send the workers home. torch leaves that to the garbage collector, which comes too late."""
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()
        forget_workers(worker.pid for worker in iterator._workers)


@atexit.register
def _end_all_workers() -> None:
    """Workers ignore the signal that ends them at exit: without this, the exit waits for ever."""
    for iterator in list(_reading):
        _end_workers(iterator)


def _start_worker(_: int) -> None:
    """Workers share the cores, one each, and read on until the training process ends them."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    ignore_stop_signals()


class FaceDataset(Dataset[dict[str, Any]]):
    """One picture a draw: {"key", "row", "epoch", "position", "image": uint8 (3, S, S)}.

    S is `side`, or the side of the shards. With `flip`, half of the draws are mirrored.
    """

    def __init__(self, index: ShardIndex, *, side: int | None, seed: int, flip: bool = False):
        self.index, self.side, self.seed, self.flip = index, side or index.side, seed, flip

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        pixels = resize_pixels(self.index.read_pixels(draw.row), self.side)
        if self.flip and sample_rng(self.seed, draw.epoch, draw.position, "flip").random() < 0.5:
            pixels = mirror_pixels(pixels)
        return {
            "key": self.index.key_of(draw.row),
            "row": draw.row,
            "epoch": draw.epoch,
            "position": draw.position,
            "image": pack_pixels(pixels),
        }
