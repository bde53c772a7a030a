"""Normalized faces that somebody else made and released as pictures => a normalized set.

    plan = plan_release("rafdb", "downloads/RAF-DB-normalized",
                        ReleasedConfig(target="id1", shards="shards/rafdb"))
    folder = write_release(plan, "normalized/rafdb").folder

The set lies in OUT/TARGET/released-XXXXXXXXXXXX, the digits being those of the pictures' names and
contents, with the keys, labels and shard numbers of its source. Nobody knows whom the generator was
trained on, so `cla` takes the set with `protocol: paper` only.

How the authors of the paper named their files we have not seen, so names are matched by several
rules (norface.data.matching). unmatched.csv lists the pictures that were not used and why,
missing.csv the keys without a picture. `cla` wants a picture of every key; where some lack,
`originals` says where to write shards of the faces that have one, and the set is joined to those.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from norface.config import Config
from norface.data.corpora.folder import is_photograph
from norface.data.indexing import INDEX_NAME, hand_on_marker
from norface.data.listing import refuse_inside, walk_files
from norface.data.matching import RULES, KeyFinder
from norface.data.normalized import RELEASED, NormalizedSet, claim_set
from norface.data.shards import ShardFile, ShardIndex, ShardWriter, write_index
from norface.data.tars import scan_shard
from norface.errors import ConfigError, CorpusError
from norface.files import make_folder, write_aside
from norface.images import decode_photo, encode_jpeg, resize_pixels
from norface.progress import track

UNMATCHED, MISSING = "unmatched.csv", "missing.csv"


class ReleasedConfig(Config):
    """What the pictures are joined to."""

    target: str
    "Name of the person that they show; letters, digits, +, - and _."
    shards: Path | None = None
    "Shards of the original faces; null = shards/CORPUS."
    side: int | None = Field(None, ge=16, le=2048)
    "Side of the set's pictures in pixels; null = that of the originals."
    originals: Path | None = None
    "New folder for shards of the originals that have a picture; null = none are written."


@dataclasses.dataclass(frozen=True)
class ReleasePlan:
    """Which picture belongs to which key."""

    corpus: str
    root: Path
    config: ReleasedConfig
    index: ShardIndex
    "The source."
    pictures: list[Path]
    "All pictures below the root, in the order of their paths."
    matched: dict[str, Path]
    "Key => picture."
    unmatched: dict[Path, str]
    "Picture => why it is not used."


@dataclasses.dataclass(frozen=True)
class ReleaseSummary:
    """What was written."""

    folder: Path
    written: int
    unmatched: int
    "Pictures that were not used."
    missing: int
    "Keys of the source without a picture."


def plan_release(corpus: str, root: str | Path, config: ReleasedConfig) -> ReleasePlan:
    """Match pictures and keys by name, without writing or reading any picture.

    Raises ConfigError for a target that is no name, CorpusError for a folder without pictures, a
    source of another corpus, or where not a single picture has a key.
    """
    root, shards = Path(root), config.shards or Path("shards") / corpus
    if not re.fullmatch(r"[A-Za-z0-9+_-]+", config.target):
        raise ConfigError(
            f"target: found '{config.target}'; a name of letters, digits, +, - and _ is needed"
        )
    index = ShardIndex.open(shards)
    others = {name for name, _ in index.persons}
    if others != {corpus}:
        raise CorpusError(
            f"{shards}: holds faces of {', '.join(sorted(others))}, not of {corpus}; give shards of"
            f" {corpus} alone with shards=FOLDER"
        )
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise CorpusError(f"{root}: {what}; give the folder of the normalized pictures")
    if config.originals is not None:
        refuse_inside(config.originals, root)
    pictures = sorted(
        (path for path in walk_files(root) if is_photograph(path)),
        key=lambda path: path.relative_to(root).parts,
    )
    if not pictures:
        raise CorpusError(f"{root}: holds no picture")
    finder = KeyFinder(index, corpus)
    matched: dict[str, Path] = {}
    unmatched: dict[Path, str] = {}
    for path in pictures:
        key = finder.find(path.relative_to(root))
        if key is None:
            unmatched[path] = "no key fits its name"
        elif (first := matched.setdefault(key, path)) != path:
            unmatched[path] = f"{key} has a picture already: {first.relative_to(root)}"
    if not matched:
        raise CorpusError(
            f"{root}: no name of {len(pictures)} pictures fits a key of {shards}; the first picture"
            f" is {pictures[0].relative_to(root)}, the first key {index.key_of(0)}; a picture is"
            f" found by {RULES}"
        )
    return ReleasePlan(corpus, root, config, index, pictures, matched, unmatched)


def write_release(plan: ReleasePlan, out: str | Path) -> ReleaseSummary:
    """Write the set and its lists; a rerun after a stop skips finished shards. Raises CorpusError.

    Pictures that cannot be read, are not square or have more than 100 megapixels are listed as
    unmatched.
    """
    index, config = plan.index, plan.config
    unusable: dict[Path, str] = {}
    if config.originals is not None:
        keys = set(list_usable(plan, unusable))
        where = index.table["key"].isin(keys).to_numpy()
        index = write_originals(index.select(where=where), config.originals)
    side = config.side or index.side
    card = NormalizedSet(
        target=config.target,
        generator=f"{RELEASED}-{hash_pictures(plan)[:12]}",
        trained_on=None,
        source=index.digest,
        side=side,
    )
    folder = Path(out) / card.target / card.generator
    claim_set(folder, card)
    written: set[str] = set()
    names = index.table["shard"].astype(str).to_numpy()
    for name in track(np.unique(names), "released", len(np.unique(names)), unit="shard"):
        rows = np.flatnonzero(names == name)
        written |= write_shard(plan, index, rows, folder / str(name), side=side, unusable=unusable)
    if not written:
        path, reason = next(iter(unusable.items()))
        raise CorpusError(f"{path}: {reason}; no picture below {plan.root} could be used")
    hand_on_marker(index.folders, folder)
    write_index(folder)
    missing = [key for key in plan.index.table["key"] if key not in written]
    bad = {**plan.unmatched, **unusable}
    rows_of_bad = [
        [path.relative_to(plan.root), bad[path]] for path in plan.pictures if path in bad
    ]
    write_rows(folder / UNMATCHED, ["path", "reason"], rows_of_bad)
    write_rows(folder / MISSING, ["key"], [[key] for key in missing])
    return ReleaseSummary(folder, len(written), len(bad), len(missing))


def write_shard(
    plan: ReleasePlan,
    index: ShardIndex,
    rows: np.ndarray,
    path: Path,
    *,
    side: int,
    unusable: dict[Path, str],
) -> set[str]:
    """Write the shard at `path` unless it is there; returns its keys and notes unusable pictures.

    A shard without a single picture is not written.
    """
    there = {member.record.key for member in scan_shard(path)} if path.is_file() else set()
    found: list[tuple[int, bytes]] = []
    for row in rows:
        key = index.key_of(int(row))
        if key in plan.matched and key not in there:
            try:
                found.append((int(row), read_released(plan.matched[key], side)))
            except CorpusError as error:
                unusable[plan.matched[key]] = reason_of(error, plan.matched[key])
    if there or not found:
        return there
    with ShardFile(path, side=side) as file:
        for row, jpeg in found:
            # Landmarks and pose were the original's and are no longer true; labels still are.
            file.write(
                dataclasses.replace(index.read_record(row), image=jpeg, landmarks=None, pose=None)
            )
    return {index.key_of(row) for row, _ in found}


def read_released(path: Path, side: int) -> bytes:
    """A picture as JPEG of side x side pixels; one that is so already is taken byte for byte.

    Raises CorpusError for what cannot be read, is not square, or is too large.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    pixels = decode_photo(data, str(path))
    height, width = pixels.shape[:2]
    if height != width:
        raise CorpusError(f"{path}: is {width}x{height} pixels; a normalized face is square")
    if height == side and data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9"):
        return data
    return encode_jpeg(resize_pixels(pixels, side))


def reason_of(error: CorpusError, path: Path) -> str:
    """The message without the path that is listed beside it."""
    return str(error).removeprefix(f"{path}: ")


def list_usable(plan: ReleasePlan, unusable: dict[Path, str]) -> Iterator[str]:
    """Keys whose picture can be read; the others' pictures are noted."""
    side = plan.config.side or plan.index.side
    for key, path in track(plan.matched.items(), "read", len(plan.matched), unit="picture"):
        try:
            read_released(path, side)
            yield key
        except CorpusError as error:
            unusable[path] = reason_of(error, path)


def write_originals(index: ShardIndex, folder: Path) -> ShardIndex:
    """The samples of an index as shards of their own, or the same ones found there.

    Raises CorpusError for a folder with other samples.
    """
    if not len(index):
        raise CorpusError(f"{folder}: no original has a picture that can be read")
    if not (folder / INDEX_NAME).is_file():
        make_folder(folder)
        hand_on_marker(index.folders, folder)
        with ShardWriter(folder, side=index.side, resume=True) as writer:
            for row in range(writer.done, len(index)):
                writer.write(index.read_record(row))
    found = ShardIndex.open(folder)
    if list(found.table["key"]) != list(index.table["key"]):
        raise CorpusError(f"{folder}: holds other faces; choose another folder for originals")
    return found


def hash_pictures(plan: ReleasePlan) -> str:
    """sha256 (hex) of the names and contents of all pictures below the root."""
    total = hashlib.sha256()
    for path in track(plan.pictures, "hash", len(plan.pictures), unit="picture"):
        total.update(path.relative_to(plan.root).as_posix().encode() + b"\0")
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A csv table, whole or not at all."""
    with write_aside(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
