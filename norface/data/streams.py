"""What F_cla reads: each original face beside its normalized ones, joined by key.

Nothing of the generator is imported here: a stream is a folder of shards with a set.json, whoever
made it. Two leaks are refused here: a generator that saw a test subject, and a target face that is
one. `protocol: paper` allows them, as the paper's generator was tuned on whole corpora, and with
them sets of released pictures, of whose generator nobody knows whom it saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset

from norface.data.augment import AugmentConfig, draw_augmentation
from norface.data.folds import find_same_people
from norface.data.loader import Draw
from norface.data.mixing import MixConfig, draw_mix, mix_labels, one_hot
from norface.data.normalized import RELEASED, NormalizedSet, describe_stream, read_set
from norface.data.shards import Person, ShardIndex
from norface.errors import ConfigError, CorpusError
from norface.images import pack_pixels, resize_pixels, to_image
from norface.training.seeding import sample_rng

Protocol = Literal["strict", "paper"]


class FaceStreams:
    """An index of originals and, for each of its rows, the K normalized faces and the features.

    A normalized stream is a set, or several that together hold every key, one a folder of shards.
    Raises CorpusError for a set of another source or that lacks a key (the first is named), for a
    set whose generator or target belongs to a test subject, and for features that lack a key.
    `decoded`: where decoded pictures are kept (norface.data.decoded).
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        normalized: Sequence[Path | Sequence[Path]] = (),
        features: Path | None = None,
        test: Sequence[Person] = (),
        protocol: Protocol = "strict",
        side: int | None = None,
        decoded: Path | None = None,
    ):
        self.index, self.side = index, side or index.side
        streams = [[one] if isinstance(one, Path) else list(one) for one in normalized]
        self.sets = [ShardIndex.open(folders) for folders in streams]
        self.sources = [describe_stream(folders) for folders in streams]
        "Generators and target of every normalized stream."
        keys = list(index.table["key"])
        sources = {index.digest}
        if len(index.folders) > 1:
            sources |= {ShardIndex.open(folder).digest for folder in index.folders}
        self._rows = [np.arange(len(index))]
        for folders, found in zip(streams, self.sets, strict=True):
            cards = [read_set(folder) for folder in folders]
            for folder, card in zip(folders, cards, strict=True):
                if card.source not in sources:
                    raise CorpusError(
                        f"{folder}: was made from other shards than {index.name}, or before these"
                        f" were written again ({_compare_keys(found, keys)}); normalize them again"
                    )
                if card.target != cards[0].target:
                    raise CorpusError(
                        f"{folder}: its target is {card.target}, that of {folders[0]} is"
                        f" {cards[0].target}; the sets of one stream have one target"
                    )
                refuse_leak(folder, card, test, protocol)
            self._rows.append(_match_rows(found, keys, cards[0]))
        self.features = None if features is None else read_features(features, keys)
        self._pixels: np.ndarray | None = None
        if decoded is not None:
            for source in [index, *self.sets]:
                source.keep_decoded(decoded)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def count(self) -> int:
        """Picture streams: 1 + K."""
        return len(self._rows)

    def cache(self, rows: Sequence[int]) -> None:
        """Decode these rows of all streams into memory: side x side x 3 bytes a picture."""
        if self._pixels is None:
            shape = (len(self), self.count, self.side, self.side, 3)
            self._pixels = np.zeros(shape, np.uint8)
            self._cached = np.zeros(len(self), bool)
        for row in rows:
            if not self._cached[row]:
                self._pixels[row] = self._decode(row)
                self._cached[row] = True

    def read(self, row: int) -> np.ndarray:
        """Pixels (1 + K, S, S, 3) of a row, the original first."""
        if self._pixels is not None and self._cached[row]:
            return self._pixels[row]
        return self._decode(row)

    def _decode(self, row: int) -> np.ndarray:
        sources = [self.index, *self.sets]
        return np.stack(
            [
                resize_pixels(source.read_pixels(int(rows[row])), self.side)
                for source, rows in zip(sources, self._rows, strict=True)
            ]
        )


def _compare_keys(found: ShardIndex, keys: Sequence[str]) -> str:
    """How many keys a set lacks, and the first of them."""
    there = set(found.table["key"])
    missing = [key for key in keys if key not in there]
    if not missing:
        return f"every key is there, first {keys[0]}, but its picture may be another"
    return f"{len(missing)} keys are missing, first {missing[0]}"


def _match_rows(found: ShardIndex, keys: Sequence[str], card: NormalizedSet) -> np.ndarray:
    """Row in the set of every key of the source. Raises CorpusError naming the first that lacks."""
    try:
        return found.rows_of(keys)
    except CorpusError as error:
        advice = f"normalize the rest of the shards into {found.name}"
        if card.generator.startswith(RELEASED):
            advice = (
                "nobody released their pictures; let norface prepare normalized write shards of the"
                " faces that have one (originals=FOLDER)"
            )
        raise CorpusError(f"{error}; {advice}") from None


def refuse_leak(
    folder: Path, card: NormalizedSet, test: Sequence[Person], protocol: Protocol
) -> None:
    """Raise CorpusError when the test subjects had a part in making a set (see this module)."""
    if card.trained_on is None and test and protocol == "strict":
        raise CorpusError(
            f"{folder}: nobody knows on whom the generator of these pictures ({card.generator}) was"
            " trained, so it may have seen the test subjects; only protocol: paper takes such a set"
        )
    trained_on = [(corpus, subject) for corpus, subject in card.trained_on or ()]
    seen = find_tested(trained_on, test)
    if seen and protocol == "strict":
        raise CorpusError(
            f"{folder}: its generator was trained on {len(seen)} test subjects, first"
            f" {seen[0]}; train it on the fold's train subjects or set protocol: paper"
        )
    corpus, _, subject = card.target.partition("_")
    target = find_tested([(corpus, subject.partition("_")[0])], test)
    if target and protocol == "strict":
        raise CorpusError(
            f"{folder}: its target {card.target} is a test subject ({target[0]}); choose another"
            " target or protocol: paper"
        )


def find_tested(seen: Iterable[Person], test: Iterable[Person]) -> list[str]:
    """Those of `seen` who are tested, also under another corpus's name: DISFA+'s are DISFA's."""
    seen, test = set(seen), set(test)
    found = ["/".join(person) for person in sorted(seen & test)]
    pairs = find_same_people(seen, test)
    return found + [f"{'/'.join(one)} = {'/'.join(other)}" for one, other in pairs]


def read_features(path: Path, keys: Sequence[str]) -> np.ndarray:
    """Features float32 (len(keys), F) of keys from a file, in their order.

    .npz: arrays `keys` (N) and `features` (N, F); .parquet: a column `key`, all others numbers.
    Raises CorpusError for another file, and naming the first key that lacks.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                there, values = file["keys"].astype(str), file["features"]
        else:
            table = pq.read_table(path).to_pandas()
            there, values = table.pop("key").to_numpy(str), table.to_numpy(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(f"{path}: not a file of features with keys ({error})") from None
    if values.ndim != 2 or len(values) != len(there) or not np.isfinite(values).all():
        raise CorpusError(f"{path}: expected finite numbers, one row a key; found {values.shape}")
    place = {key: row for row, key in enumerate(there)}
    missing = [key for key in keys if key not in place]
    if missing:
        raise CorpusError(f"{path}: {len(missing)} keys are missing, first {missing[0]}")
    return values[[place[key] for key in keys]].astype(np.float32)


class StreamDataset(Dataset[dict[str, Any]]):
    """One sample a draw, of all streams.

    {"key", "row", "epoch", "position", "images": uint8 (1 + K, 3, S, S), "features": float32 (F),
    "label"}; with `mix`, images are float32 (1 + K, 3, S, S), -1..1. `draw.row` counts in `rows`,
    the part of the streams that is read; labels (len(streams), ...) count in the streams. The
    streams of a sample are mirrored alike, and their other changes are drawn for each. With `mix`,
    each sample is mixed with the partner of its draw; labels of `classes` classes (0 = they are no
    classes) then become shares of them.
    """

    def __init__(
        self,
        streams: FaceStreams,
        rows: np.ndarray,
        labels: np.ndarray,
        *,
        seed: int = 0,
        augment: AugmentConfig | None = None,
        mix: MixConfig | None = None,
        classes: int = 0,
    ):
        self.streams, self.rows, self.labels = streams, rows, labels
        self.seed, self.augment = seed, augment
        self.mix, self.classes = mix if mix is not None and mix.on else None, classes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        row = int(self.rows[draw.row])
        pixels, features, label = self._read(row, draw, "augment"), self._features(row), None
        images = pack_pixels(pixels) if self.mix is None else to_image(pixels)
        if self.mix is not None and draw.partner >= 0:
            mix = draw_mix(self.mix, sample_rng(self.seed, draw.epoch, draw.position, "mix"))
            partner, share = int(self.rows[draw.partner]), mix.share_at(images.shape[-1])
            images = mix.blend(images, to_image(self._read(partner, draw, "partner")))
            features = torch.lerp(self._features(partner), features, share)
            label = mix_labels(self._shares(row), self._shares(partner), share)
        return {
            "key": self.streams.index.key_of(row),
            "row": row,
            "epoch": draw.epoch,
            "position": draw.position,
            "images": images,
            "features": features,
            "label": torch.as_tensor(self.labels[row] if label is None else label),
        }

    def _features(self, row: int) -> torch.Tensor:
        features = self.streams.features
        return torch.from_numpy(features[row] if features is not None else _NOTHING)

    def _shares(self, row: int) -> np.ndarray:
        label = self.labels[row]
        return one_hot(int(label), self.classes) if self.classes else label

    def _read(self, row: int, draw: Draw, purpose: str) -> np.ndarray:
        """Pixels (1 + K, S, S, 3) of a row, changed for this draw."""
        pixels = self.streams.read(row)
        if self.augment is not None:
            place = (self.seed, draw.epoch, draw.position)
            # A mirrored face beside one that is not would be two different expressions.
            mirrored = bool(sample_rng(*place, f"{purpose}/flip").random() < self.augment.flip)
            pixels = np.stack(
                [
                    draw_augmentation(
                        self.augment, sample_rng(*place, f"{purpose}/{stream}"), mirrored=mirrored
                    ).apply(picture)
                    for stream, picture in enumerate(pixels)
                ]
            )
        return pixels


_NOTHING = np.zeros(0, np.float32)


def refuse_both(normalized: Sequence[Any], features: Path | None) -> None:
    """Raise ConfigError: features stand in for normalized pictures, never beside them."""
    if normalized and features is not None:
        raise ConfigError("data: features replace normalized sets; give one of the two")
