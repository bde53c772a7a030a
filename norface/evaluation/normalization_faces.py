"""What the judges see of the originals, of normalized sets and of their targets.

Pictures are read a batch at a time and only what is measured of them is kept, so that a corpus of
any size can be looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from norface.critics.base import Critic
from norface.data.normalized import TARGET_NAME, NormalizedSet, read_set
from norface.data.shards import ShardIndex
from norface.errors import CorpusError
from norface.evaluation.normalization import region_error
from norface.evaluation.unit_readers import Reading, UnitReader
from norface.images import read_photo, resize_pixels, to_image
from norface.models.face_networks import IdentityNetwork
from norface.progress import Progress

BATCH = 64
COARSE = 16
"Side to which pictures are brought for their border and for the probe without an embedding."


@dataclasses.dataclass(frozen=True)
class Judges:
    """Who measures; none of them was in a loss. None = that is not measured."""

    reader: UnitReader
    identity: IdentityNetwork | Critic | None
    "Pictures => unit-length embeddings (N, D)."
    features: torch.nn.Module | None = None
    "Pictures => maps, of which the last one's mean over places is FID's feature."
    expression: Critic | None = None
    "Pictures => embeddings (N, E) in the place of what the reader reads."


@dataclasses.dataclass(frozen=True)
class Seen:
    """N pictures through the judges."""

    reading: Reading
    border: np.ndarray
    "(N, B): left, right and upper border, coarse, 0..1."
    coarse: np.ndarray
    "(N, COARSE^2): grey, 0..1."
    identity: np.ndarray | None
    features: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class NormalizedFaces:
    """A set beside the same keys of its source."""

    name: str
    card: NormalizedSet
    index: ShardIndex
    rows: np.ndarray
    "Row in the set of each sampled original."
    target: np.ndarray
    "Pixels (S, S, 3) of the target."


def sample_rows(index: ShardIndex, most: int | None) -> np.ndarray:
    """Up to `most` rows (None = all), as many of each person as possible, spread over them."""
    if most is None or len(index) <= most:
        return np.arange(len(index))
    pairs = index.table["corpus"].astype(str) + "/" + index.table["subject"].astype(str)
    _, person = np.unique(pairs.to_numpy(), return_inverse=True)
    each = max(1, most // (int(person.max()) + 1))
    chosen = []
    for one in range(person.max() + 1):
        rows = np.flatnonzero(person == one)
        chosen.append(rows[np.unique(np.linspace(0, len(rows) - 1, each).astype(int))])
    # More persons than pictures wanted: every n-th of them.
    return np.sort(np.concatenate(chosen))[:: max(1, len(chosen) * each // most)]


def open_sets(
    index: ShardIndex,
    sets: Mapping[str, Path],
    targets: Mapping[str, Path],
    keys: Sequence[str],
) -> list[NormalizedFaces]:
    """Sets of these originals. Raises CorpusError for a set of other shards, one that lacks a key
    (the first is named) or one whose target's picture is nowhere."""
    found = []
    for name, folder in sets.items():
        card, normalized = read_set(folder), ShardIndex.open(folder)
        if card.source != index.digest:
            missing = set(keys) - set(normalized.table["key"])
            some = f"; key {min(missing)} is not in it" if missing else ""
            raise CorpusError(
                f"sets.{name}: {folder} was made from other shards than {index.name}{some};"
                " normalize these, or give the shards that it was made from"
            )
        try:
            rows = normalized.rows_of(keys)
        except CorpusError as error:
            raise CorpusError(f"sets.{name}: {error}; normalize the rest of the shards") from None
        path = targets.get(name, folder / TARGET_NAME)
        if not path.is_file():
            raise CorpusError(
                f"sets.{name}: {folder} holds no {TARGET_NAME}; give the picture of its target as"
                f" targets.{name}=PICTURE"
            )
        found.append(NormalizedFaces(name, card, normalized, rows, read_photo(path)))
    return found


def look(index: ShardIndex, rows: np.ndarray, judges: Judges, name: str) -> Seen:
    """These pictures through all judges."""
    parts: list[Seen] = []
    with Progress(f"look at {name}", len(rows), unit="face") as progress:
        for start in range(0, len(rows), BATCH):
            chosen = rows[start : start + BATCH]
            parts.append(look_at(np.stack([index.read_pixels(int(row)) for row in chosen]), judges))
            progress.advance(len(chosen))
    return _join(parts)


@torch.no_grad()
def look_at(pixels: np.ndarray, judges: Judges) -> Seen:
    """uint8 (N, S, S, 3) through all judges."""
    images = to_image(pixels)
    coarse = np.stack([resize_pixels(one, COARSE) for one in pixels]) / 255
    edge = COARSE // 8
    sides = np.concatenate([coarse[:, :, :edge], coarse[:, :, -edge:]], axis=2)
    top = coarse[:, :edge, edge:-edge]
    border = np.concatenate([sides.reshape(len(pixels), -1), top.reshape(len(pixels), -1)], axis=1)
    features = None
    if judges.features is not None:
        maps = judges.features(images)
        features = (maps[-1] if isinstance(maps, list) else maps).mean(dim=(2, 3)).numpy()
    reading = judges.reader.read(pixels)
    if judges.expression is not None:
        reading = reading._replace(expression=judges.expression(images).numpy())
    return Seen(
        reading=reading,
        border=border,
        coarse=coarse.mean(axis=3).reshape(len(pixels), -1),
        identity=None if judges.identity is None else judges.identity(images).numpy(),
        features=features,
    )


def _join(parts: Sequence[Seen]) -> Seen:
    def together(name: str) -> np.ndarray | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else np.concatenate(found)

    reading = Reading(*map(np.concatenate, zip(*(part.reading for part in parts), strict=True)))
    names = ("border", "coarse", "identity", "features")
    return Seen(reading, **{name: together(name) for name in names})  # type: ignore[arg-type]


def truth_errors(
    faces: NormalizedFaces, truth: NormalizedFaces, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of |picture - truth| over mouth and brows (N), of the set and of its bare target.

    Raises CorpusError where the truth is of another target or holds no landmarks.
    """
    if faces.card.target != truth.card.target:
        raise CorpusError(
            f"truth: its target is {truth.card.target}, that of sets.{name} is"
            f" {faces.card.target}; render the truth for that target (`norface synth --truth`)"
        )
    ours, bare = np.zeros(len(faces.rows)), np.zeros(len(faces.rows))
    for place, (row, true_row) in enumerate(zip(faces.rows, truth.rows, strict=True)):
        record = truth.index.read_record(int(true_row))
        if record.landmarks is None:
            raise CorpusError(f"truth: {record.key} has no landmarks; not a set of rendered faces")
        expected, points = truth.index.read_pixels(int(true_row)), np.array(record.landmarks)
        side = len(expected)
        seen = resize_pixels(faces.index.read_pixels(int(row)), side)
        ours[place] = region_error(seen, expected, points)
        bare[place] = region_error(resize_pixels(truth.target, side), expected, points)
    return ours, bare
