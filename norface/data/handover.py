"""Batches, and their way from a loader's workers to the training process.

torch sends every tensor of a batch in a shared file of its own, made, mapped and thrown away again:
for eight pictures of 256 pixels that takes longer than decoding them. Here a worker keeps a few
slots of shared memory, sent once; a batch is stacked in a free slot, only its number travels, and
the training process copies the batch out and marks the slot as free.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

SLOTS = 3
"Of each worker: torch asks a worker for two batches in advance, and one is being copied out."
LINE = 64
"Bytes. Tensors begin at multiples of it; the first line of a slot says whether it is in use."

_memories: dict[tuple[int, int], Tensor] = {}
"In the training process: (pid of a worker, number of its ring) => its slots (SLOTS, bytes)."


def stack_samples(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Samples with the same names => one batch: tensors stacked, numbers as a tensor, the rest as
    lists."""
    batch: dict[str, Any] = {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if isinstance(first, Tensor):
            batch[name] = torch.stack(values)
        elif isinstance(first, int | float | np.number | np.bool_):
            batch[name] = torch.from_numpy(np.array(values))
        else:
            batch[name] = values
    return batch


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a tensor lies in a slot."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    first: int
    size: int

    def of(self, slot: Tensor) -> Tensor:
        """The tensor (a view) in a slot (bytes,)."""
        return slot[self.first : self.first + self.size].view(self.dtype).view(self.shape)


@dataclasses.dataclass(frozen=True)
class Parcel:
    """A batch in a worker's slot, as it is sent."""

    ring: tuple[int, int]
    slot: int
    batch: dict[str, Any]
    "Name => Place of a tensor, or what it is."
    memory: Tensor | None
    "The slots, with the first parcel of a ring; None = they were sent before."

    def open(self, *, pin: bool = False) -> dict[str, Any]:
        """The batch, copied (into pinned memory); its slot is free then."""
        if self.memory is not None:
            _memories[self.ring] = self.memory
        slot = _memories[self.ring][self.slot]
        batch = dict(self.batch)
        for name, place in self.batch.items():
            if isinstance(place, Place):
                kept = torch.empty(place.shape, dtype=place.dtype, pin_memory=pin)
                batch[name] = kept.copy_(place.of(slot))
        slot[0] = 0
        return batch

    def pin_memory(self) -> dict[str, Any]:
        """As torch's pinning thread asks for it."""
        return self.open(pin=True)


def forget_workers(pids: Iterable[int]) -> None:
    """Give back the slots of workers that have ended."""
    ended = set(pids)
    for ring in [ring for ring in _memories if ring[0] in ended]:
        _memories.pop(ring, None)


class Handover:
    """`collate_fn` of a loader: `stack_samples`, in a worker into a slot of its own.

    Without a free slot, which only a loader that asks for more batches in advance can bring about,
    the batch itself is sent, in torch's way.
    """

    def __init__(self) -> None:
        self.memory: Tensor | None = None
        self.ring = (0, 0)

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any] | Parcel:
        if get_worker_info() is None:
            return stack_samples(samples)
        small = stack_samples([_without_tensors(sample) for sample in samples])
        batch, end = dict(samples[0]), LINE
        for name, first in samples[0].items():
            found = small.get(name, first)
            if not isinstance(found, Tensor):
                batch[name] = found
                continue
            shape = tuple(found.shape) if name in small else (len(samples), *found.shape)
            size = math.prod(shape) * found.element_size()
            batch[name] = Place(found.dtype, shape, end, size)
            end += -(-size // LINE) * LINE
        is_new = self._make_room(end)
        assert self.memory is not None
        free = torch.nonzero(self.memory[:, 0] == 0)
        if not len(free):
            return stack_samples(samples)
        number = int(free[0])
        slot = self.memory[number]
        for name, place in batch.items():
            if isinstance(place, Place) and name in small:
                place.of(slot).copy_(small[name])
            elif isinstance(place, Place):
                torch.stack([sample[name] for sample in samples], out=place.of(slot))
        slot[0] = 1
        return Parcel(self.ring, number, batch, self.memory if is_new else None)

    def _make_room(self, size: int) -> bool:
        """See to slots of at least `size` bytes; whether they are new."""
        if self.memory is not None and self.memory.shape[1] >= size:
            return False
        self.memory = torch.zeros((SLOTS, size), dtype=torch.uint8).share_memory_()
        self.ring = os.getpid(), self.ring[1] + 1
        return True


def _without_tensors(sample: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sample.items() if not isinstance(value, Tensor)}
