"""Random numbers that depend on the sample, not on the process that happens to draw them.

Every draw about a sample (augmentation, mask, self pair, its target, router noise) is keyed by
(seed, epoch, position in the epoch's global order, purpose). So one rank with batch B draws what
two ranks with batch B/2 draw, and a resumed run draws what an uninterrupted one would have drawn.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def sample_key(seed: int, epoch: int, position: int, purpose: str) -> int:
    """128 bits that are different for every (seed, epoch, position, purpose)."""
    text = struct.pack("<qqq", seed, epoch, position) + purpose.encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


def sample_rng(seed: int, epoch: int, position: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose of one sample; two purposes of a sample are independent."""
    return np.random.Generator(np.random.PCG64(sample_key(seed, epoch, position, purpose)))


def sample_normal(
    seed: int,
    epoch: Sequence[int],
    positions: Sequence[int],
    purpose: str,
    shape: Sequence[int],
) -> torch.Tensor:
    """Standard normal noise, float32 (B, *shape), on the CPU.

    Row i is keyed by (seed, epoch[i], positions[i], purpose).
    """
    import torch

    noise = np.empty((len(positions), *shape), np.float32)
    for row, (one_epoch, position) in enumerate(zip(epoch, positions, strict=True)):
        generator = sample_rng(seed, int(one_epoch), int(position), purpose)
        noise[row] = generator.standard_normal(tuple(shape), np.float32)
    return torch.from_numpy(noise)


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch, once, when a stage starts."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed the same generators for one step of one rank.

    Some 20 microseconds: torch.manual_seed would also write down where it was called from.
    """
    import torch

    key = sample_key(seed, step, rank, "step") % 2**63
    random.seed(key)
    np.random.seed(key % 2**32)
    torch.default_generator.manual_seed(key)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(key)


@contextlib.contextmanager
def keeping_generators() -> Iterator[None]:
    """What the block draws from the same generators is as if it had not been drawn."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
