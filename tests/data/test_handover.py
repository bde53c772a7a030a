"""Batches from workers: the same as without, kept whole, and their memory given back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from norface.data import handover
from norface.data.handover import SLOTS, Handover, Parcel, stack_samples
from norface.data.loader import Loader


class Numbers(Dataset):
    """Samples with something of every kind; with `grows`, larger tensors from row 40 on."""

    def __init__(self, *, grows: bool = False):
        self.grows = grows

    def __len__(self):
        return 80

    def __getitem__(self, row):
        width = 5 if self.grows and row >= 40 else 3
        return {
            "key": f"k{row}",
            "image": torch.full((3, 4, width), row, dtype=torch.uint8),
            "shift": torch.tensor(row / 7),
            "none": torch.zeros(0, 2),
            "row": row,
            "is_self": row % 3 == 0,
            "share": row / 3,
            "person": np.int64(row + 1),
        }


def batches(*, workers: int, grows: bool = False, size: int = 4) -> list[dict]:
    rows = [list(range(first, first + size)) for first in range(0, 80, size)]
    return list(Loader(Numbers(grows=grows), batch_sampler=rows, workers=workers))


def same(one: dict, other: dict) -> bool:
    assert list(one) == list(other)
    return all(
        torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one.values(), other.values(), strict=True)
    )


def test_a_batch_is_what_torch_makes_of_the_same_samples():
    samples = [Numbers()[row] for row in (3, 1, 2)]
    assert same(stack_samples(samples), default_collate(samples))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("grows", [False, True])
def test_workers_hand_over_the_same_batches_and_none_is_overwritten(workers, grows):
    # All are kept, many times as many as there are slots.
    found = batches(workers=workers, grows=grows)
    assert len(found) == 20 > 2 * SLOTS * workers
    assert all(map(same, found, batches(workers=0, grows=grows)))
    assert not handover._memories, "the slots of ended workers are given back"


def raw_parcels(prefetch: int) -> tuple[list, DataLoader]:
    rows = [[row, row + 1] for row in range(0, 40, 2)]
    loader = DataLoader(
        Numbers(),
        batch_sampler=rows,
        num_workers=1,
        collate_fn=Handover(),
        prefetch_factor=prefetch,
    )
    return rows, loader


def test_without_a_free_slot_the_batch_itself_is_sent():
    rows, loader = raw_parcels(prefetch=8)
    # None is opened before all have arrived.
    found = list(loader)
    assert [isinstance(one, Parcel) for one in found] == [True] * SLOTS + [False] * 17
    opened = [one.open() if isinstance(one, Parcel) else one for one in found]
    expected = [stack_samples([Numbers()[row] for row in chosen]) for chosen in rows]
    assert all(map(same, opened, expected))


def test_only_the_first_parcel_carries_the_memory_and_an_opened_one_frees_its_slot():
    _, loader = raw_parcels(prefetch=2)
    slots = []
    for number, parcel in enumerate(itertools.islice(loader, 9)):
        assert isinstance(parcel, Parcel) and (parcel.memory is not None) == (number == 0)
        parcel.open()
        slots.append(parcel.slot)
    assert set(slots) <= set(range(SLOTS))
    handover.forget_workers([parcel.ring[0]])


@pytest.mark.gpu
def test_a_gpus_batches_arrive_pinned():
    found = batches(workers=1)
    assert all(one["image"].is_pinned() for one in found)
    assert all(map(same, found, batches(workers=0)))
