"""Shards => a folder of pictures that can be released: pictures, labels, a card, check sums.

    OUT/pictures/shard-000000/KEY.jpg    the JPEG of the shard, byte for byte
    OUT/labels.csv                       path, corpus, subject, clip, frame, split, emotion, units
    OUT/README.md                        the card
    OUT/SHA256SUMS                       of all of them; sha256sum -c reads it
    OUT/pictures/rehearsal.json          of a rehearsal's faces only: norface.data.rehearsal

`norface prepare folder OUT/pictures SHARDS labels=OUT/labels.csv` reads it again, and where it is a
normalized set, so does `norface prepare normalized CORPUS OUT/pictures ...`.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from norface import __version__
from norface.data.indexing import LABELS, find_rehearsal
from norface.data.label_counts import count_labels, count_splits, count_subjects
from norface.data.normalized import SET_NAME, NormalizedSet, read_set
from norface.data.records import FaceRecord
from norface.data.rehearsal import MARKER, SAID, write_marker
from norface.data.shards import ShardIndex
from norface.data.tars import check_jpeg
from norface.errors import ConfigError
from norface.files import write_folder_aside
from norface.images import decode_jpeg
from norface.progress import track

PICTURES, TABLE, CARD, SUMS = "pictures", "labels.csv", "README.md", "SHA256SUMS"
WORDS = ("corpus", "subject", "clip", "frame", "split", "emotion")
"Columns of labels.csv behind `path`; the action units follow."


@dataclasses.dataclass(frozen=True)
class ExportSummary:
    """What was written."""

    pictures: int
    bytes: int
    "Of the pictures."


def export_shards(shards: str | Path, out: str | Path, *, licence: str) -> ExportSummary:
    """Write a release of a folder of shards into a new or empty folder, whole or not at all.

    Raises ConfigError for an empty licence, CorpusError for damaged shards, a folder with something
    in it or one that cannot be written.
    """
    if not licence.strip():
        raise ConfigError(
            "--licence: is empty; say under which terms the pictures may be used. Most corpora do"
            " not allow to hand on their pictures or what was made of them"
        )
    index = ShardIndex.open(shards)
    card = read_set(shards) if (Path(shards) / SET_NAME).is_file() else None
    units = [name for name in index.table.columns if name.startswith(LABELS)]
    out, size = Path(out), 0
    with write_folder_aside(out) as folder:
        sums: dict[str, str] = {}
        with open(folder / TABLE, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["path", *WORDS, *units])
            for place, record in track(read_samples(index), "export", len(index)):
                assert isinstance(record.image, bytes), "read_samples decodes it"
                path = folder / PICTURES / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(record.image)
                sums[f"{PICTURES}/{place}"] = hashlib.sha256(record.image).hexdigest()
                size += len(record.image)
                table.writerow([place, *to_cells(record, units)])
        if (rehearsal := find_rehearsal(index.folders[0])) is not None:
            # Where `norface prepare folder` looks for it, so that it stays known.
            write_marker(folder / PICTURES, rehearsal)
            marker = (folder / PICTURES / MARKER).read_bytes()
            sums[f"{PICTURES}/{MARKER}"] = hashlib.sha256(marker).hexdigest()
        (folder / CARD).write_text(
            write_card(index, card, licence=licence, name=out.name), encoding="utf-8"
        )
        for name in (TABLE, CARD):
            sums[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        lines = [f"{digest}  {name}\n" for name, digest in sums.items()]
        (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    return ExportSummary(len(index), size)


def read_samples(index: ShardIndex) -> Iterator[tuple[str, FaceRecord]]:
    """(path below pictures/, record) of every sample, in the order of the index.

    A folder a shard keeps folders small. Raises CorpusError naming file and key of a damaged one.
    """
    names = index.table["shard"].astype(str)
    for row, shard in enumerate(names):
        record = index.read_record(row)
        check_jpeg(record, index.side, index.folders[0] / shard)
        assert isinstance(record.image, bytes), "a shard holds encoded pictures"
        # A sound header says nothing of what follows it; a release is decoded before it is made.
        decode_jpeg(record.image, index.where(row))
        yield f"{Path(shard).stem}/{record.key}.jpg", record


def to_cells(record: FaceRecord, units: list[str]) -> list[object]:
    """The cells of WORDS and of the action units; what is not labelled is empty."""
    cells: list[object] = [getattr(record, word) for word in WORDS]
    for name in units:
        kind, unit = name.split("_")
        labels = record.presence if kind == "au" else record.intensity
        cells.append(labels.get(int(unit)))
    return ["" if cell is None else cell for cell in cells]


def write_card(index: ShardIndex, card: NormalizedSet | None, *, licence: str, name: str) -> str:
    """The release's README.md."""
    (corpora, _), splits = count_subjects(index.table), count_splits(index.table)
    names, found = ", ".join(sorted(corpora)), set(index.table["split"].astype(str)) - {""}
    kind = "Normalized faces" if card is not None else "Aligned faces"
    lines = [f"# {name}", "", f"{kind} of {names}, with labels, written by Norface {__version__}."]
    if find_rehearsal(index.folders[0]) is not None:
        lines += ["", f"**This is {SAID}.**"]
    if card is not None:
        lines += [
            "Every picture shows one target person with the expression of the original face.",
            "Labels are those of the originals.",
        ]
    lines += [
        "",
        "## Licence",
        "",
        licence.strip(),
        "",
        "## What is there",
        "",
        f"- {len(index)} pictures, JPEG of {index.side}x{index.side} pixels, in `{PICTURES}/`",
        *(f"- {count} subjects of {corpus}" for corpus, count in corpora.items()),
        *(
            f"- {count} pictures of the part {part}"
            for part, count in splits.items()
            if part in found
        ),
        f"- labels in `{TABLE}`: one row a picture; an empty cell is an unknown label",
        f"- sha256 sums of all files in `{SUMS}` (`sha256sum -c {SUMS}`)",
    ]
    lines += describe_origin(index, card) + describe_labels(index.table)
    lines += [
        "",
        "## Reading it",
        "",
        f"    norface prepare folder {PICTURES} SHARDS labels={TABLE}",
    ]
    if card is not None:
        lines.append(
            f"    norface prepare normalized {min(corpora)} {PICTURES} OUT target={card.target}"
            " shards=SHARDS_OF_THE_ORIGINALS"
        )
    return "\n".join(lines) + "\n"


def describe_origin(index: ShardIndex, card: NormalizedSet | None) -> list[str]:
    """Where the pictures come from."""
    lines = ["", "## Origin", "", f"- index of the shards: sha256 {index.digest}"]
    if card is None:
        return lines
    if card.trained_on is None:
        trained = "not known"
    else:
        trained = f"{len(card.trained_on)} persons" if card.trained_on else "nobody"
    return [
        *lines,
        f"- target: {card.target}",
        f"- generator: {card.generator}",
        f"- the generator was trained on: {trained}",
        f"- index of the originals: sha256 {card.source}",
    ]


def describe_labels(table: pd.DataFrame) -> list[str]:
    """Tables of the labels, where there are any."""
    about, lines = count_labels(table), ["", "## Labels", ""]
    if about.emotions:
        lines += ["| emotion | pictures |", "|---|---|"]
        lines += [f"| {emotion} | {count} |" for emotion, count in about.emotions.items()] + [""]
    for units, title in (
        (about.presence, "present"),
        (about.intensity, "intensity of 1 and more"),
    ):
        if units:
            lines += [f"| action unit | labelled | {title} | share |", "|---|---|---|---|"]
            lines += [
                f"| AU{unit} | {one.labelled} | {one.positive} | {one.rate:.3f} |"
                for unit, one in units.items()
            ] + [""]
    return lines[:-1] if len(lines) > 3 else [*lines, "None."]
