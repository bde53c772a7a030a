"""Synthetic faces as DISFA: a film of each camera, one file of levels a unit, SN010 a frame short.

The right camera's folder and films are spelled otherwise than the left one's, as in some copies,
and its pictures are the left one's mirrored.
"""

from __future__ import annotations

from pathlib import Path

from norface.data.corpora.disfa import SUBJECTS, UNITS
from norface.data.records import FaceRecord
from norface.progress import Progress
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.layouts.sequences import (
    draw_photographs,
    name_subjects,
    presence_of_levels,
    write_film,
)

SHORT = "SN010"
"Has one frame less than the others."


def write_disfa(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """Both cameras and the labels. Returns what a reader must find of the left camera."""
    subjects = name_subjects(settings, SUBJECTS, "disfa")
    found: list[FaceRecord] = []
    left, right = root / "Videos_LeftCamera", root / "Video_RightCamera"
    left.mkdir()
    right.mkdir()
    with Progress("layout", len(subjects), unit="person") as progress:
        for person, subject in enumerate(subjects):
            shots = list(draw_photographs(settings, person))[: -1 if subject == SHORT else None]
            write_film(left / f"LeftVideo{subject}_comp.avi", [pixels for pixels, _ in shots])
            mirrored = [pixels[:, ::-1].copy() for pixels, _ in shots]
            write_film(right / f"rightvideo{subject}_Comp.avi", mirrored)
            _write_levels(root / "ActionUnit_Labels" / subject, [levels for _, levels in shots])
            for frame, (_, levels) in enumerate(shots, 1):
                intensity = {unit: float(levels.get(unit, 0)) for unit in UNITS}
                presence = presence_of_levels(levels, UNITS)
                found.append(FaceRecord("disfa", subject, "left", frame, None, presence, intensity))
            progress.advance()
    return found


def _write_levels(folder: Path, frames: list[dict[int, int]]) -> None:
    """A file for each unit: a line of frame, counted from 1, and level for each frame."""
    folder.mkdir(parents=True)
    for unit in UNITS:
        lines = [f"{frame},{levels.get(unit, 0)}\n" for frame, levels in enumerate(frames, 1)]
        (folder / f"{folder.name}_au{unit}.txt").write_text("".join(lines), encoding="utf-8")
