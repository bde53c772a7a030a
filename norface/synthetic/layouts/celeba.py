"""A small CelebA: pictures of 178x218 pixels, the lists beside them, and what is odd in copies.

Odd here: persons are numbered with gaps and come in no order, the list of points has two lines of
heads and columns of several spaces, a picture lacks its identity, and a listed picture is missing.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np

from norface.data.records import FaceRecord
from norface.images import encode_jpeg, resize_pixels
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.renderer import render
from norface.synthetic.sampling import Frame

WIDTH, HEIGHT = 178, 218
"Pixels of an aligned picture (pytorch/vision:torchvision/datasets/celeba.py reads them as they are)."
POINTS = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x"
    " rightmouth_y"
)
SPLITS = ("train", "validation", "test")


def person_number(subject: int) -> int:
    """Number of the n-th person among some ten thousand, in no order."""
    return (2879 + 1013 * subject) % 10_000 + 1


def write(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """Write it; the last picture has no identity."""
    folder = root / "img_align_celeba"
    folder.mkdir()
    identities, parts, points = [], [], []
    records = []
    draws = [settings.draw(subject) for subject in range(settings.subjects)]
    # Persons take turns, so that pictures of one are never neighbours.
    turns = [(subject, frame) for row in zip_longest(*draws) for subject, frame in enumerate(row)]
    for number, (subject, frame) in enumerate(turns, 1):
        assert frame is not None
        name, person, part = f"{number:06d}.jpg", person_number(subject), subject % len(SPLITS)
        pixels, five = show(frame, settings.side)
        (folder / name).write_bytes(encode_jpeg(pixels))
        parts.append(f"{name} {part}")
        points.append(f"{name} " + " ".join(f"{value:4d}" for value in five.ravel()))
        if number < len(turns):
            identities.append(f"{name} {person}")
            records.append(FaceRecord("celeba", str(person), "aligned", number, split=SPLITS[part]))
    lost = f"{len(turns) + 1:06d}.jpg"
    write_lines(root / "identity_CelebA.txt", [*identities, f"{lost} {person_number(0)}"])
    write_lines(root / "list_eval_partition.txt", [*parts, f"{lost} 0"])
    write_lines(root / "list_landmarks_align_celeba.txt", [str(len(points)), f"{POINTS} ", *points])
    write_lines(
        root / "list_bbox_celeba.txt",
        [str(len(parts)), "image_id x_1 y_1 width height"]
        # Boxes of the photographs before they were cropped: of no use for these pictures.
        + [f"{line.split()[0]}    {95 + n}  {71 + n} 226 313" for n, line in enumerate(parts)],
    )
    return records


def show(frame: Frame, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (218, 178, 3) of a face, and its five points, int (5, 2), in pixels."""
    face = render(frame.parameters, side)
    small = min(side, WIDTH)
    left, top = (WIDTH - small) // 2, (HEIGHT - small) // 2
    pixels = cv2.copyMakeBorder(
        resize_pixels(face.pixels, small),
        top, HEIGHT - small - top, left, WIDTH - small - left,
        cv2.BORDER_REPLICATE,
    )  # fmt: skip
    marks = face.landmarks * small + (left, top)
    five = [marks[36:42].mean(0), marks[42:48].mean(0), marks[30], marks[48], marks[54]]
    return pixels, np.round(five).astype(int)


def write_lines(path: Path, lines: list[str]) -> None:
    """Write lines of text."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
