"""Synthetic faces as DISFA+: two trials a person, one file of levels a unit and trial.

Oddities: pictures before and behind the coded frames, a coded picture that is not there, and the
folder of the corpus's own aligned pictures, which no reader of ours takes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from norface.data.corpora.disfa import UNITS
from norface.data.corpora.disfaplus import SUBJECTS
from norface.data.records import FaceRecord
from norface.images import encode_jpeg
from norface.progress import Progress
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.layouts.sequences import (
    draw_photographs,
    name_subjects,
    presence_of_levels,
)

TRIALS = ("A1_AU1_TrialNo_1", "A2_AU1_TrialNo_1")
FIRST = 1
"Number of the first coded picture of a trial; 000.jpg and the one behind the last are not coded."
LOST = (SUBJECTS[0], TRIALS[1], FIRST + 2)
"Person, trial and number of the picture that is not there."


def write_disfaplus(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """Labels, Images and Aligned. Returns what a reader must find."""
    subjects = name_subjects(settings, SUBJECTS, "disfaplus")
    found: list[FaceRecord] = []
    with Progress("layout", len(subjects), unit="person") as progress:
        for person, subject in enumerate(subjects):
            for number, trial in enumerate(TRIALS):
                shots = list(draw_photographs(settings, person, number * 1000))
                place = f"{subject}/{trial}"
                write_pictures(root / "Images" / place, [pixels for pixels, _ in shots])
                _write_levels(root / "Labels" / place, [levels for _, levels in shots])
                # Their names are those of the pictures.
                (root / "Aligned" / place).mkdir(parents=True)
                (root / "Aligned" / place / "000.jpg").write_bytes(
                    encode_jpeg(shots[0][0][::2, ::2])
                )
                for frame, (_, levels) in enumerate(shots, FIRST):
                    if (subject, trial, frame) == LOST:
                        (root / "Images" / place / f"{frame:03d}.jpg").unlink()
                        continue
                    intensity = {unit: float(levels.get(unit, 0)) for unit in UNITS}
                    presence = presence_of_levels(levels, UNITS)
                    clip = trial.replace("_", "-")
                    found.append(
                        FaceRecord("disfaplus", subject, clip, frame, None, presence, intensity)
                    )
            progress.advance()
    return found


def write_pictures(folder: Path, pictures: list[np.ndarray]) -> None:
    """000.jpg, 001.jpg ...: the pictures between a repeated first and a repeated last one."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate([pictures[0], *pictures, pictures[-1]], FIRST - 1):
        (folder / f"{number:03d}.jpg").write_bytes(encode_jpeg(pixels))


def _write_levels(folder: Path, frames: list[dict[int, int]]) -> None:
    """A file for each unit: a line of picture and level for each coded frame."""
    folder.mkdir(parents=True)
    for unit in UNITS:
        lines = [
            f"{frame:03d}.jpg {levels.get(unit, 0)}\n" for frame, levels in enumerate(frames, FIRST)
        ]
        (folder / f"AU{unit}.txt").write_text("".join(lines), encoding="utf-8")
