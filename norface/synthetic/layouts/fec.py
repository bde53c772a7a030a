"""A small FEC: two tables of triplets, photographs named by hash or by URL, and what is odd.

Odd here: rows of different length (five or six votes, none, and one without a type), a photograph
of two faces, a URL that is dead, a page of text that was saved in a photograph's place, a row that
is cut, a box whose sides are exchanged, and photographs that no row names.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from norface.data.records import FaceRecord
from norface.images import encode_jpeg
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.renderer import render

TRAIN = "faceexp-comparison-data-train-public.csv"
TEST = "faceexp-comparison-data-test-public.csv"
KIND = ("ONE_CLASS_TRIPLET", "TWO_CLASS_TRIPLET", "THREE_CLASS_TRIPLET")
PAGE = b"<!DOCTYPE html><title>This photo is no longer available</title>"


class Face(NamedTuple):
    """A face as a table names it."""

    url: str
    sides: tuple[float, float, float, float]
    "Left, right, top, bottom in units of width and height."

    @property
    def cells(self) -> list[str]:
        """The five cells of a row."""
        return [self.url, *(f"{side:.6f}" for side in self.sides)]


def write(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """Write the tables and the photographs; the last person's are in the test table."""
    folder = root / "images"
    folder.mkdir()
    records: list[FaceRecord] = []
    rows: dict[str, list[list[str]]] = {TRAIN: [], TEST: []}
    for subject in range(settings.subjects):
        table, split = (TRAIN, "train")
        if settings.subjects > 1 and subject == settings.subjects - 1:
            table, split = (TEST, "test")
        faces = write_photographs(folder, subject, settings)
        records += [make_record(face, split) for face in faces]
        rows[table] += triplets(faces)
    rows[TRAIN] += odd_rows(folder, rows[TRAIN][0])
    for name, lines in rows.items():
        with open(root / name, "w", newline="", encoding="utf-8") as file:
            # Copies with quoted cells are about too.
            quoting = csv.QUOTE_ALL if name == TEST else csv.QUOTE_MINIMAL
            csv.writer(file, quoting=quoting).writerows(lines)
    (folder / "unused.jpg").write_bytes(PAGE)
    return records


def write_photographs(folder: Path, subject: int, settings: LayoutSettings) -> list[Face]:
    """Photographs of a person; the first two frames share one. Every third is named by its URL."""
    drawn = [render(frame.parameters, settings.side).pixels for frame in settings.draw(subject)]
    pictures = [np.hstack(drawn[:2]), *drawn[2:]]
    faces = []
    for number, pixels in enumerate(pictures):
        url = f"http://farm{subject}.static.example/{subject}{number:03d}_f00_b.jpg"
        name = hashlib.sha1(url.encode()).hexdigest() + ".jpg"
        if number % 3 == 1:
            name = url.rsplit("/", 1)[1]
        (folder / name).write_bytes(encode_jpeg(pixels))
        spans: Sequence[tuple[float, float]] = [(0.1, 0.9)]
        if number == 0:
            spans = [(0.05, 0.45), (0.55, 0.95)]
        faces += [Face(url, (left, right, 0.1, 0.95)) for left, right in spans]
    return faces


def triplets(faces: list[Face]) -> list[list[str]]:
    """A row for every three neighbours, with 6, 5 or no votes, and one without a type.

    The five agree by four, enough for a triplet that can be trained on; the six do not agree.
    """
    rows = []
    for first in range(len(faces)):
        three = [faces[(first + step) % len(faces)] for step in range(3)]
        row = [cell for face in three for cell in face.cells]
        votes = (6, 5, 0, 6)[first % 4]
        if first % 4 != 3:
            row.append(KIND[first % 3])
            choices = [1 + (n == 4) if votes == 5 else 1 + n % 3 for n in range(votes)]
            row += [cell for n, one in enumerate(choices) for cell in (f"annotator{n}", str(one))]
        rows.append(row)
    return rows


def odd_rows(folder: Path, good: list[str]) -> list[list[str]]:
    """Rows that cannot be used: each one spoils a copy of a good row."""
    dead, page = "http://farm9.static.example/9000_gone.jpg", "http://farm9.static.example/9001.jpg"
    (folder / (hashlib.sha1(page.encode()).hexdigest() + ".jpg")).write_bytes(PAGE)
    left, right = good[1], good[2]
    return [
        [dead, *good[1:]],
        [page, *good[1:]],
        good[:12],
        [good[0], right, left, *good[3:]],
        [*good[:15], "FOUR_CLASS_TRIPLET", *good[16:]],
        [*good[:17], "4", *good[18:]],
    ]


def make_record(face: Face, split: str) -> FaceRecord:
    """What a reader must find of a face."""
    subject = hashlib.sha1(face.url.encode()).hexdigest()[:16]
    box = "-".join(f"{round(side * 10_000):04d}" for side in face.sides)
    return FaceRecord("fec", subject, box, 0, split=split)
