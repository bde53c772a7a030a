"""set.json: what a set of normalized shards was made from.

A set is a folder of shards with the keys and the shard numbers of its source, normally
NORMALIZED/TARGET/GENERATOR, with `set.json` and the target's picture (`target.png`) beside them.
The true normalized faces of the synthetic corpus are a set whose generator is `truth`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from norface.config import Config, describe
from norface.errors import CorpusError
from norface.files import make_folder, write_aside
from norface.images import read_photo, write_png

SET_NAME = "set.json"
TARGET_NAME = "target.png"
TRUTH = "truth"
"The generator's name of sets that were rendered, not generated."
RELEASED = "released"
"Beginning of the generator's name of sets that were made elsewhere (norface.data.released)."


class NormalizedSet(Config):
    """The contents of set.json."""

    target: str
    "Key of the target picture, or its file's stem where it comes from no shard."
    generator: str
    """First 12 hex digits of the generator file's sha256, `truth`, or `released-` and 12 digits of
    the content for pictures that somebody else made."""
    trained_on: list[tuple[str, str]] | None
    "(corpus, subject) of every person that the generator was trained on; null = nobody knows."
    source: str
    "sha256 of the source's index (ShardIndex.digest)."
    side: int
    "Side of the pictures in pixels."


def read_set(folder: str | Path) -> NormalizedSet:
    """Read a set's set.json. Raises CorpusError when there is none or it is damaged."""
    path = Path(folder) / SET_NAME
    try:
        return NormalizedSet.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise CorpusError(f"{folder}: holds no {SET_NAME}; not a normalized set") from None
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise CorpusError(f"{path}: {describe(error, NormalizedSet)}") from None


class StreamSource(Config):
    """Where a stream of normalized faces came from, as a classifier's file remembers it."""

    generators: list[str]
    "Those of its sets, see NormalizedSet.generator; several where each corpus has a set."
    target: str
    "Key or name of the target."
    picture: str | None
    "`digest_pixels` of the target's picture at the generator's side; null = there is none."


def describe_stream(folders: Sequence[Path]) -> StreamSource:
    """The source of a stream that these sets make together. Raises CorpusError."""
    cards = [read_set(folder) for folder in folders]
    picture = folders[0] / TARGET_NAME
    return StreamSource(
        generators=list(dict.fromkeys(card.generator for card in cards)),
        target=cards[0].target,
        picture=digest_pixels(read_photo(picture)) if picture.is_file() else None,
    )


def digest_pixels(pixels: np.ndarray) -> str:
    """First 12 hex digits of the sha256 of a picture's shape and pixels, uint8 (H, W, 3)."""
    shape = "x".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).hexdigest()[:12]


def write_set(folder: str | Path, card: NormalizedSet) -> None:
    """Write set.json, whole or not at all. Raises CorpusError."""
    path = Path(folder) / SET_NAME
    make_folder(path.parent)
    with write_aside(path, shared=True) as aside:
        aside.write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")


def claim_set(folder: str | Path, card: NormalizedSet, target: np.ndarray | None = None) -> None:
    """Make the folder of a set, or find it made for the same card by this job or another.

    target: pixels (S, S, 3) of target.png. It is written before the card, so that a set with a card
    has its picture, wherever a job was killed. Raises CorpusError where the folder holds a set of
    other sources or cannot be written.
    """
    folder = Path(folder)
    there = (folder / SET_NAME).is_file()
    if there and read_set(folder) != card:
        raise CorpusError(
            f"{folder}: holds a set of another source; remove it or choose another `out`"
        )
    picture = folder / TARGET_NAME
    if target is not None and not picture.is_file():
        make_folder(folder)
        with write_aside(picture, shared=True) as aside:
            write_png(aside, target)
    if not there:
        write_set(folder, card)
