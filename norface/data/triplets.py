"""Triplets of faces, two of which wear expressions more alike than the third's: judged by people
(the table of FEC), or mined from labelled action-unit intensities."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from norface.data.corpora.fec import TRIPLETS
from norface.data.labelled import LabelledFaces
from norface.data.loader import Draw
from norface.data.shards import ShardIndex
from norface.errors import CorpusError
from norface.training.seeding import sample_rng


class Triplet(NamedTuple):
    """Rows of two faces that are alike and of the odd one, and the margin between them."""

    first: int
    second: int
    odd: int
    margin: float


class Picker(Protocol):
    """Says which triplet a draw means; as long as an epoch."""

    def __len__(self) -> int: ...
    def pick(self, draw: Draw) -> Triplet: ...


class Judged:
    """Triplets of a table: draw.row counts its lines."""

    def __init__(self, triplets: list[Triplet]):
        self.triplets = triplets

    def __len__(self) -> int:
        return len(self.triplets)

    def pick(self, draw: Draw) -> Triplet:
        return self.triplets[draw.row]


class Mined:
    """A triplet an anchor face: of some faces of other persons the one most alike, and one less.

    `intensity` (N, U) of the faces, NaN = unlabelled (a pair is compared in the units that both
    have); `person` (N,). Anchors are the faces with any label. Other persons only, so that who they
    are tells nothing. Raises CorpusError where a face has fewer than two such others.
    """

    def __init__(
        self,
        intensity: np.ndarray,
        person: np.ndarray,
        *,
        seed: int,
        candidates: int,
        margin: float,
    ):
        self.intensity, self.person = intensity, person
        self.seed, self.candidates, self.margin = seed, candidates, margin
        self.anchors = np.flatnonzero(~np.isnan(intensity).all(1))
        counts = np.unique(person[self.anchors], return_counts=True)[1]
        if len(counts) < 2 or (counts.sum() - counts < 2).any():
            raise CorpusError(
                "triplets are mined from faces with labelled intensities, at least two of other"
                " persons for each; these shards have fewer: set triplets.table or choose others"
            )

    def __len__(self) -> int:
        return len(self.anchors)

    def pick(self, draw: Draw) -> Triplet:
        """Keyed by (seed, epoch, position): the same on any number of ranks."""
        anchor = int(self.anchors[draw.row])
        rng = sample_rng(self.seed, draw.epoch, draw.position, "triplet")
        others = self.anchors[self.person[self.anchors] != self.person[anchor]]
        few = rng.choice(others, size=min(self.candidates, len(others)), replace=False)
        distance = self.compare(anchor, few)
        order = few[np.argsort(distance, kind="stable")]
        known = np.sort(distance)
        # One at random of those that are clearly less alike, for easy ones alone teach little.
        less = np.flatnonzero(known > 1.25 * known[0] + 0.02)
        odd = int(rng.choice(less)) if len(less) else len(order) - 1
        return Triplet(anchor, int(order[0]), int(order[odd]), self.margin)

    def compare(self, anchor: int, rows: np.ndarray) -> np.ndarray:
        """Root of the mean square difference of the intensities that both have; inf = none."""
        square = (self.intensity[rows] - self.intensity[anchor]) ** 2
        known = ~np.isnan(square)
        count = known.sum(1)
        total = np.where(known, square, 0).sum(1)
        return np.where(count > 0, np.sqrt(total / np.maximum(count, 1)), np.inf)


class TripletFaces(torch.utils.data.Dataset):
    """Draw => image uint8 (3, 3, S, S) in the order first, second, odd; change (3, 7), noise_seed
    (3), margin, and the rows of the three faces (3)."""

    def __init__(self, faces: LabelledFaces, picker: Picker):
        self.faces, self.picker = faces, picker

    def __len__(self) -> int:
        return len(self.picker)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        triplet = self.picker.pick(draw)
        rows = triplet[:3]
        parts = [
            self.faces[Draw(row, draw.epoch, 3 * draw.position + place)]
            for place, row in enumerate(rows)
        ]
        return {
            "key": parts[0]["key"],
            "image": torch.stack([part["image"] for part in parts]),
            "change": torch.stack([part["change"] for part in parts]),
            "noise_seed": torch.tensor([part["noise_seed"] for part in parts]),
            "margin": torch.tensor(triplet.margin),
            "rows": torch.tensor(rows),
        }


def read_triplets(
    path: Path, index: ShardIndex, *, agreement: float, margin: float, one_class_margin: float
) -> dict[str, list[Triplet]]:
    """Triplets of a table by split (train, test, ...), those on which enough votes agree and whose
    three faces are in `index`.

    The odd face is the one with most votes. Raises CorpusError for another table, or where no
    triplet is left.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CorpusError(f"{path}: cannot be read as a table of triplets ({reason})") from None
    missing = [name for name in TRIPLETS.names if name not in table]
    if missing:
        raise CorpusError(
            f"{path}: no column {', '.join(missing)}; `norface prepare fec ROOT OUT"
            " triplets=FILE` writes such a table"
        )
    known = pd.Index(index.table["key"])
    rows = np.stack([known.get_indexer(table[f"key{n}"]) for n in (1, 2, 3)], 1)
    found: dict[str, list[Triplet]] = {}
    for three, kind, votes, split in zip(
        rows, table["type"], table["votes"], table["split"], strict=True
    ):
        if len(votes) == 0 or (three < 0).any():
            continue
        odd, count = Counter(int(vote) for vote in votes).most_common(1)[0]
        if odd not in (1, 2, 3) or count < agreement * len(votes) - 1e-9:
            continue
        first, second = (int(three[n]) for n in range(3) if n != odd - 1)
        far = one_class_margin if kind == "ONE_CLASS_TRIPLET" else margin
        found.setdefault(split, []).append(Triplet(first, second, int(three[odd - 1]), far))
    if not found:
        raise CorpusError(
            f"{path}: of {len(table)} triplets none has its three faces in {index.name} and votes"
            f" that agree by {agreement:.0%}; prepare the shards and the table together"
        )
    return found
