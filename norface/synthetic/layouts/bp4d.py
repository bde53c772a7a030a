"""Synthetic faces as BP4D: mixed zeros before numbers, code 9, frames that nobody coded.

Oddities: what data/corpora/bp4d.py says of the official folder, each at least once, from two
persons on: T1 of the first person has a coded row without a picture, a 9 among other codes, and a
row of nothing but 9; the second person's names have other capitals; one task of each of them is a
film, once named by the task and once by the session. Pictures stand before and behind every coded
segment.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from norface.data.corpora.au_tables import NOT_CODED
from norface.data.corpora.bp4d import INTENSITY_CODED, SESSIONS
from norface.data.labels import ACTION_UNITS
from norface.data.records import FaceRecord
from norface.images import encode_jpeg
from norface.progress import Progress
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.layouts.sequences import (
    draw_photographs,
    name_subjects,
    presence_of_levels,
    write_film,
)

FIRST_CODED = 98
"Number of the first coded frame: the numbers soon grow a digit."
FIRST_FILMED = 3
"The same in a film, whose first picture is frame 1."
BEFORE, BEHIND = 2, 1
"Pictures that nobody coded, before and behind the segment."
ZEROS = (4, 1, 3)
"Least digits of a picture's number, from sequence to sequence."
FRAMES_OF_A_TASK = 1000
"So many frame numbers of a synthetic person belong to one task."


@dataclasses.dataclass(frozen=True)
class HandOut:
    """Where a hand-out of the family has its files, and what it codes."""

    corpus: str
    subjects: Sequence[str]
    coded_tasks: Sequence[int]
    columns: Sequence[int]
    "Units in the header of an occurrence table, in order."
    occurrence: str
    "Folder of the occurrence tables."
    intensity: str
    "Folder of the intensity tables' folders."
    pictures: str
    "Folder of the photographs, '' for the root."
    films: tuple[tuple[int, int, str], ...]
    "(number of the person from 0, task, name of the film)."

    @property
    def units(self) -> tuple[int, ...]:
        """Units with real codes: AU25 and AU26 have a column in BP4D at most, and no codes."""
        return tuple(unit for unit in self.columns if unit in ACTION_UNITS and unit not in (25, 26))


BP4D = HandOut(
    corpus="bp4d",
    subjects=[f"F{n:03d}" for n in range(1, 24)] + [f"M{n:03d}" for n in range(1, 19)],
    coded_tasks=range(1, 9),
    # The position of a column is the number of its unit.
    columns=range(1, 29),
    occurrence="AUCoding",
    intensity="AU-Intensity-Codes3.0",
    pictures="",
    films=(
        (0, 2, "2F01_T2.avi"),
        (1, 3, f"2F02_{next(number for number, task in SESSIONS.items() if task == 3):02d}.avi"),
    ),
)


def write_bp4d(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """BP4D as it was handed out first. Returns what a reader must find."""
    return write_hand_out(root, settings, BP4D)


def write_hand_out(root: Path, settings: LayoutSettings, hand_out: HandOut) -> list[FaceRecord]:
    """Write every coded task of every person. Returns what a reader must find."""
    subjects = name_subjects(settings, hand_out.subjects, hand_out.corpus)
    found: list[FaceRecord] = []
    (root / hand_out.occurrence).mkdir(parents=True)
    for unit in INTENSITY_CODED:
        (root / hand_out.intensity / f"AU{unit:02d}").mkdir(parents=True)
    total = len(subjects) * len(hand_out.coded_tasks)
    with Progress("layout", total, unit="sequence") as progress:
        for person in range(len(subjects)):
            for task in hand_out.coded_tasks:
                found += _write_sequence(root, settings, hand_out, person, task)
                progress.advance()
    return found


def _write_sequence(
    root: Path, settings: LayoutSettings, hand_out: HandOut, person: int, task: int
) -> list[FaceRecord]:
    subject = hand_out.subjects[person]
    shots = list(draw_photographs(settings, person, FRAMES_OF_A_TASK * task))
    film = {(who, what): name for who, what, name in hand_out.films}.get((person, task))
    first = FIRST_CODED if film is None else FIRST_FILMED
    photographs = {first + i: pixels for i, (pixels, _) in enumerate(shots)}
    records = []
    for frame, (_, levels) in enumerate(shots, first):
        presence = presence_of_levels(levels, hand_out.units)
        if person % 2:
            # Some units were coded of some people only.
            del presence[5], presence[20]
        intensity = {unit: float(levels.get(unit, 0)) for unit in INTENSITY_CODED}
        records.append(
            FaceRecord(hand_out.corpus, subject, f"T{task}", frame, None, presence, intensity)
        )
    if odd := person == 0 and task == hand_out.coded_tasks[0]:
        del records[-2].presence[12]
        records[-1] = dataclasses.replace(records[-1], presence={}, intensity={})
    _write_tables(root, hand_out, records, capitals=person == 1 and task == 1)
    # Somebody stands there before and behind the coded segment too.
    for frame in (
        *range(first - BEFORE, first),
        *range(first + len(shots), first + len(shots) + BEHIND),
    ):
        photographs[frame] = photographs[first]
    if odd:
        del photographs[first + 1], records[1], records[-1]
    place = root / hand_out.pictures
    if film is not None:
        write_film(place / film, [photographs[frame] for frame in sorted(photographs)])
    else:
        digits = ZEROS[(person + task) % len(ZEROS)]
        suffix = "JPG" if person == 1 else "jpg"
        _write_pictures(place / subject / f"T{task}", photographs, digits, suffix)
    return records


def _write_tables(
    root: Path, hand_out: HandOut, records: Sequence[FaceRecord], *, capitals: bool
) -> None:
    """The occurrence table of a sequence, and its intensity tables."""
    sequence = f"{records[0].subject}_{records[0].clip}"
    name = f"{sequence}.csv"
    table = root / hand_out.occurrence / (name.swapcase() if capitals else name)
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([0, *hand_out.columns])
        for record in records:
            # Units that we do not know are coded too, where there are codes at all.
            rest = {unit: 0 for unit in hand_out.columns if unit not in ACTION_UNITS}
            codes = {**rest, **record.presence} if record.presence else {}
            writer.writerow(
                [record.frame, *(codes.get(unit, NOT_CODED) for unit in hand_out.columns)]
            )
    for unit in INTENSITY_CODED:
        lines = [
            f"{record.frame},{int(record.intensity.get(unit, NOT_CODED))}\n" for record in records
        ]
        of_unit = root / hand_out.intensity / f"AU{unit:02d}" / f"{sequence}_AU{unit:02d}.csv"
        of_unit.write_text("".join(lines), encoding="utf-8")


def _write_pictures(
    folder: Path, photographs: dict[int, np.ndarray], digits: int, suffix: str
) -> None:
    folder.mkdir(parents=True)
    for frame, pixels in photographs.items():
        (folder / f"{frame:0{digits}d}.{suffix}").write_bytes(encode_jpeg(pixels))
