"""Pairs for F_nor: an original face and the target whose identity it is to take on."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from norface.data.loader import Draw
from norface.data.mixture import Mixture
from norface.data.shards import ShardIndex
from norface.errors import CorpusError
from norface.images import mirror_pixels, pack_pixels, resize_pixels
from norface.training.seeding import sample_rng


class PairDataset(Dataset[dict[str, Any]]):
    """One pair a draw: the original I_o from the global order, the target I_t drawn for it.

    The target comes from all faces of `index` (the paper), or from `target_pool`. With probability
    `self_pair`, I_o and I_t are one picture, where L_rec (eq. 5) is defined: the original without
    a pool, the drawn target with one. With probability `clip_pair` they are two pictures of one
    clip, in which the face that is wanted is the original itself, so L_rec is defined too: without
    a pool the target is drawn from the original's clip, with one the original from the target's.
    Draws are keyed by (seed, epoch, position). With a `mixture` of `index`, targets from all faces
    follow its weights, as the originals do by their order.

    Gives {"key", "target_key", "epoch", "position", "original", "target": uint8 (3, S, S),
    "is_self": bool}; "key" is that of the picture in "original", "is_self" says that the face that
    is wanted is the original, so that L_rec is defined. With `flip`, half of the originals and,
    independently, half of the targets are mirrored; a self pair or clip pair is mirrored as one.
    With `companions` there is a "companion", too, uint8 (3, S, S): another face of the target's
    person, mirrored as the target is.
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        target_pool: ShardIndex | None,
        self_pair: float = 0.3,
        clip_pair: float = 0.0,
        seed: int,
        side: int | None,
        flip: bool = False,
        mixture: Mixture | None = None,
        companions: bool = False,
    ):
        self.index, self.pool = index, index if target_pool is None else target_pool
        self.self_pair, self.clip_pair, self.seed = self_pair, clip_pair, seed
        self.clips = Groups(index, CLIP) if clip_pair else None
        self.people = Groups(index, PERSON) if companions else None
        if self.people is not None:
            self.people.refuse_single(self.pool)
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
        kind, mirrored = rng.random(), rng.random(2) < 0.5
        want_self = kind < self.self_pair
        want_clip = not want_self and kind < self.self_pair + self.clip_pair
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
        row = draw.row
        if want_clip and self.clips is not None:
            if self.pool is self.index:
                target_row = self.clips.draw(self.index, draw.row, rng)
                target_key, target_pixels = self.index.key_of(target_row), None
            else:
                row, pixels = self.clips.draw(self.pool, target_row, rng), None
                key = self.index.key_of(row)
        is_same = key == target_key
        if target_pixels is None:
            target_pixels = self.pool.read_pixels(target_row)
        if pixels is None and not is_same:
            pixels = self.index.read_pixels(row)
        target = self._shape(target_pixels, mirror=mirrored[1])
        # A clip pair is mirrored as one.
        turned = mirrored[1 if want_clip else 0]
        original = target if is_same else self._shape(pixels, mirror=turned)
        found = {
            "key": key,
            "target_key": target_key,
            "epoch": draw.epoch,
            "position": draw.position,
            "original": pack_pixels(original),
            "target": pack_pixels(target),
            "is_self": is_same or want_clip,
        }
        if self.people is not None:
            rng = sample_rng(self.seed, draw.epoch, draw.position, "companion")
            other_row = self.people.draw(self.index, self.index.row_of(target_key), rng, apart=True)
            pixels = self.index.read_pixels(other_row)
            found["companion"] = pack_pixels(self._shape(pixels, mirror=mirrored[1]))
        return found

    def _shape(self, pixels: np.ndarray | None, *, mirror: bool) -> np.ndarray:
        assert pixels is not None
        pixels = resize_pixels(pixels, self.side)
        return mirror_pixels(pixels) if mirror and self.flip else pixels


PERSON = ["corpus", "subject"]
"Columns that name a person."
CLIP = [*PERSON, "clip"]
"Columns that name a clip."


class Groups:
    """Which samples of an index share what some columns say: one person, or one clip of one."""

    def __init__(self, index: ShardIndex, columns: list[str]):
        groups = index.table.groupby(columns, observed=True, sort=False)
        numbers = groups.ngroup().to_numpy()
        self.columns = columns
        self._order = np.argsort(numbers, kind="stable")
        self._starts = np.append(
            np.searchsorted(numbers[self._order], np.arange(groups.ngroups)), len(numbers)
        )
        first = self._order[self._starts[:-1]]
        names = index.table[columns].astype(str).iloc[first].itertuples(index=False, name=None)
        self._number = {name: number for number, name in enumerate(names)}
        self.name = index.name

    def draw(
        self, source: ShardIndex, row: int, rng: np.random.Generator, *, apart: bool = False
    ) -> int:
        """Row in the index of a random sample of the group that row `row` of `source` is of.

        `apart`: another one than that row, which must then be a row of the index itself, in a group
        of two or more. Raises CorpusError when the index has no sample of that group.
        """
        name = tuple(source.table[self.columns].iloc[row].astype(str))
        if name not in self._number:
            raise CorpusError(
                f"{self.name}: no sample of the clip of {source.key_of(row)}; clip_pair needs the"
                " targets' clips among the originals"
            )
        number = self._number[name]
        members = self._order[self._starts[number] : self._starts[number + 1]]
        if apart:
            members = members[members != row]
        return int(members[rng.integers(len(members))])

    def refuse_single(self, source: ShardIndex) -> None:
        """Raises CorpusError where a sample of `source` is the only one of its group."""
        sizes = np.diff(self._starts)
        names = source.table[self.columns].astype(str).drop_duplicates()
        single = [
            "/".join(name)
            for name in names.itertuples(index=False, name=None)
            if sizes[self._number[name]] < 2
        ]
        if single:
            raise CorpusError(
                f"{self.name}: {len(single)} of {len(names)} target persons have one face only, the"
                f" first being {single[0]}; discriminator.condition=pair needs another face of"
                " each: choose a target_pool, or condition=none"
            )
