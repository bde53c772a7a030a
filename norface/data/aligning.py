"""One photograph => one aligned picture, or the reason why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from norface.config import Config
from norface.data.alignment import TEMPLATE, align_face
from norface.data.detection import Detection, DetectorChoice, FaceDetector, box_overlap
from norface.data.pictures import picture_place, read_picture
from norface.data.records import FaceRecord
from norface.errors import CorpusError
from norface.images import encode_jpeg

TEMPLATE_EYES = float(TEMPLATE[1, 0] - TEMPLATE[0, 0])
"Distance of the eyes in an aligned picture, in units of its side."
LEAST_OVERLAP = 0.1
"""A face and the region that the labels are about are the same from this overlap on (intersection
over union). Corpora and detectors draw their boxes differently: forehead and ears in, or out."""

MOST_ROLL_DEG = 60
"A face that leans more is noted: seldom it is one, and mostly it was taken for upside down."

Box = tuple[float, float, float, float]
"Left, top, right, bottom in pixels."


class PreparationConfig(Config):
    """How photographs become aligned pictures."""

    side: int = Field(256, ge=32, le=2048)
    "Side of the aligned pictures, in pixels."
    faces: Literal["largest", "reject"] = "largest"
    """Of a photograph with several faces: take the largest (noted), or leave the photograph out.
    Where the corpus tells the region of the face, that face is taken in either case."""
    least_eye_distance: float = Field(12.0, ge=0)
    "Faces whose eyes are nearer to each other in the photograph, in pixels, are left out."
    samples_per_shard: int = Field(1000, gt=0)
    "Photographs in a shard; those that are left out are missing from it."


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one photograph."""

    jpeg: bytes | None = None
    "The aligned picture; None = left out."
    reason: str = ""
    note: str = ""


def make_aligner(
    config: PreparationConfig, choice: DetectorChoice
) -> Callable[[Sequence[FaceRecord]], list[Outcome]]:
    """Load the detector; returns the function of a piece of work."""
    # A process a core; and sums whose order depends on threads would change the last bits.
    torch.set_num_threads(1)
    detector = choice.load()
    return lambda records: [align_record(record, config, detector) for record in records]


def align_record(record: FaceRecord, config: PreparationConfig, detector: FaceDetector) -> Outcome:
    """One photograph => its aligned picture as JPEG, or the reason why there is none."""
    try:
        pixels = read_picture(record)
        face, others = choose_face(pixels, record.region, config, detector)
        if face.eye_distance < config.least_eye_distance:
            raise CorpusError(
                f"the eyes are {face.eye_distance:.0f} pixels apart, less than"
                f" {config.least_eye_distance:.0f}"
            )
        notes = [others] if others else []
        if abs(face.roll_deg) > MOST_ROLL_DEG:
            notes.append(f"turned by {face.roll_deg:.0f} degrees in the photograph")
        enlarged = TEMPLATE_EYES * config.side / face.eye_distance
        if enlarged > 2:
            notes.append(f"enlarged {enlarged:.1f} times")
        aligned = align_face(pixels, face.five_points, config.side)
        return Outcome(encode_jpeg(aligned), note="; ".join(notes))
    except CorpusError as error:
        return Outcome(reason=str(error).removeprefix(f"{picture_place(record)}: "))


def choose_face(
    pixels: np.ndarray, region: Box | None, config: PreparationConfig, detector: FaceDetector
) -> tuple[Detection, str]:
    """The face that the labels are about, and a note on the others ("" where there are none).

    With a region it is the face that overlaps it most. A detector that sees only larger faces of
    the photograph is shown the surroundings of the region alone.

    Raises CorpusError with the reason where there is none, or no single one.
    """
    height, width = pixels.shape[:2]
    faces = detector.find_faces(pixels)
    if region is not None:
        found = nearest_face(faces, region)
        if found is None:
            found = nearest_face(find_around(pixels, region, detector), region)
        if found is None:
            seen = f", {len(faces)} elsewhere" if faces else ""
            raise CorpusError(
                f"no face found in the region {', '.join(f'{edge:.0f}' for edge in region)} of"
                f" {width}x{height} pixels{seen}"
            )
        note = f"{len(faces)} faces; that of the labels was taken" if len(faces) > 1 else ""
        return found, note
    if not faces:
        raise CorpusError(f"no face found in {width}x{height} pixels")
    if len(faces) > 1 and config.faces == "reject":
        raise CorpusError(f"{len(faces)} faces; give one, or --faces largest")
    return faces[0], f"{len(faces)} faces; the largest was taken" if len(faces) > 1 else ""


def nearest_face(faces: Sequence[Detection], region: Box) -> Detection | None:
    """The face that overlaps the region most; None where none does by LEAST_OVERLAP."""
    best = max(faces, key=lambda face: box_overlap(face.box, region), default=None)
    if best is None or box_overlap(best.box, region) < LEAST_OVERLAP:
        return None
    return best


def find_around(pixels: np.ndarray, region: Box, detector: FaceDetector) -> list[Detection]:
    """Faces of the part of a photograph twice as wide and high as the region, around it."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = region
    wider, higher = (x1 - x0) / 2, (y1 - y0) / 2
    left, top = max(int(x0 - wider), 0), max(int(y0 - higher), 0)
    right, bottom = min(int(x1 + wider), width), min(int(y1 + higher), height)
    if right - left < 1 or bottom - top < 1:
        return []
    part = np.ascontiguousarray(pixels[top:bottom, left:right])
    shift = np.array([left, top, left, top])
    return [
        dataclasses.replace(
            face,
            box=tuple((np.array(face.box) + shift).tolist()),
            five_points=face.five_points + shift[:2],
        )
        for face in detector.find_faces(part)
    ]
