"""Pairs for F_nor: an original face and the target whose identity it is to take on."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from norface.data.loader import Draw
from norface.data.mixture import Mixture
from norface.data.shards import ShardIndex
from norface.images import resize_pixels, to_image
from norface.training.seeding import sample_rng


class PairDataset(Dataset[dict[str, Any]]):
    """One pair a draw: the original I_o from the global order, the target I_t drawn for it.

    The target comes from all faces of `index` (the paper), or from `target_pool`. With probability
    `self_pair`, I_o and I_t are one picture, where L_rec (eq. 5) is defined: the original without
    a pool, the drawn target with one. Draws are keyed by (seed, epoch, position). With a `mixture`
    of `index`, targets from all faces follow its weights, as the originals do by their order.

    Gives {"key", "target_key", "epoch", "position", "original", "target": float32 (3, S, S), -1..1,
    "is_self": bool}; "key" is that of the picture in "original". With `flip`, half of the originals
    and, independently, half of the targets are mirrored; a self pair is mirrored as one.
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        target_pool: ShardIndex | None,
        self_pair: float = 0.3,
        seed: int,
        side: int | None,
        flip: bool = False,
        mixture: Mixture | None = None,
    ):
        self.index, self.pool = index, index if target_pool is None else target_pool
        self.self_pair, self.seed = self_pair, seed
        self.side, self.flip = side or index.side, flip
        self.mixture = mixture if self.pool is index else None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        return self.pair(draw)

    def pair(
        self,
        draw: Draw,
        pixels: np.ndarray | None = None,
        other: tuple[int, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """The pair of a draw, of pictures that a stream has read already: the original's `pixels`,
        and `other` = (row, pixels) for the target where there is no pool.
        """
        rng = sample_rng(self.seed, draw.epoch, draw.position, "pair")
        # All numbers are drawn in a fixed order, so that one option never shifts another's draws.
        want_self, mirrored = rng.random() < self.self_pair, rng.random(2) < 0.5
        if self.mixture is not None:
            target_row = self.mixture.pick(rng.random())
        else:
            target_row = int(rng.integers(len(self.pool)))
        target_pixels = None
        if other is not None and self.pool is self.index:
            target_row, target_pixels = other
        target_key = self.pool.key_of(target_row)
        key = self.index.key_of(draw.row)
        if want_self and self.pool is self.index:
            target_row, target_key, target_pixels = draw.row, key, pixels
        elif want_self:
            key = target_key
        is_self = key == target_key
        if target_pixels is None:
            target_pixels = self.pool.read_pixels(target_row)
        if pixels is None and not is_self:
            pixels = self.index.read_pixels(draw.row)
        target = self._shape(target_pixels, mirror=mirrored[1])
        original = target if is_self else self._shape(pixels, mirror=mirrored[0])
        return {
            "key": key,
            "target_key": target_key,
            "epoch": draw.epoch,
            "position": draw.position,
            "original": to_image(original),
            "target": to_image(target),
            "is_self": is_self,
        }

    def _shape(self, pixels: np.ndarray | None, *, mirror: bool) -> np.ndarray:
        assert pixels is not None
        pixels = resize_pixels(pixels, self.side)
        return pixels[:, ::-1] if mirror and self.flip else pixels
