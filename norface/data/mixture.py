"""Several folders of shards as one mixture: how often each is read, whatever its size.

    mixture = Mixture(index.table["folder"].to_numpy(), weights=[1, 1, 2])
    rows = mixture.draw_epoch(seed=0, epoch=3)      # as many rows as the index has

An epoch has as many samples as all folders together. A folder of weight w gets its share
w / sum(weights) of them, to the nearest whole sample. Its samples come in passes, each a
permutation of all of them, and an epoch goes on where the one before it stopped: in a small folder
every sample comes equally often, give or take one, and of a large folder every sample comes before
one comes again. All of it follows from (seed, epoch) alone, so there is no state to save.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from norface.errors import CorpusError
from norface.training.seeding import sample_key


class Mixture:
    """Rows by the weights of their folders.

    folder_of_row: int (N), position of each row's folder; weights: one number > 0 a folder, in any
    unit. Raises CorpusError for a folder without a row.
    """

    def __init__(self, folder_of_row: np.ndarray, weights: Sequence[float]):
        self.members = [np.flatnonzero(folder_of_row == n) for n in range(len(weights))]
        empty = [n for n, rows in enumerate(self.members) if not len(rows)]
        if empty:
            raise CorpusError(
                f"data.weights: folder {empty[0] + 1} of data.shards holds none of the chosen"
                " samples; take it and its weight out"
            )
        self.shares = np.asarray(weights, np.float64) / np.sum(weights)
        self.counts = share_out(len(folder_of_row), self.shares)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def draw_epoch(self, *, seed: int, epoch: int) -> np.ndarray:
        """Rows (N,) of an epoch, folder after folder; the sampler shuffles them."""
        return np.concatenate(
            [
                self._part(number, seed, epoch * count, count)
                for number, count in enumerate(self.counts.tolist())
            ]
        )

    def _part(self, folder: int, seed: int, start: int, count: int) -> np.ndarray:
        """`count` rows of a folder from place `start` of its endless row of passes."""
        rows = self.members[folder]
        passes = range(start // len(rows), -(-(start + count) // len(rows)))
        found = [
            rows[shuffle(len(rows), seed, number, f"pass of folder {folder}")] for number in passes
        ]
        begin = start - passes.start * len(rows)
        return np.concatenate([rows[:0], *found])[begin : begin + count]

    def pick(self, place: float) -> int:
        """The row at a `place` in 0..1 (1 excluded): folders by weight, rows of one alike."""
        ends = np.cumsum(self.shares)
        folder = min(int(np.searchsorted(ends, place, side="right")), len(ends) - 1)
        rows, width = self.members[folder], self.shares[folder]
        inside = (place - (ends[folder] - width)) / width
        return int(rows[min(max(int(inside * len(rows)), 0), len(rows) - 1)])


def share_out(total: int, shares: np.ndarray) -> np.ndarray:
    """Whole numbers that sum to `total`, nearest to `shares`: the largest remainders get the rest.

    Of equal remainders the first wins. 40 samples at 1:1 => [20, 20]; 10 at 1:1:1 => [4, 3, 3].
    """
    exact = shares * total
    counts = np.floor(exact + 1e-9).astype(int)
    rest = np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]
    counts[rest] += 1
    return counts


def shuffle(length: int, seed: int, epoch: int, purpose: str) -> np.ndarray:
    """A permutation of 0..length-1, keyed by (seed, epoch, purpose)."""
    generator = np.random.PCG64(sample_key(seed, epoch, 0, purpose))
    return np.random.Generator(generator).permutation(length)
