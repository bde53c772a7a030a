"""RAF-DB's layout, as norface.data.corpora.rafdb describes it.

Oddities: the misspelt name of the list, a name in other capitals than its file's, a listed picture
that is not there; in the original photographs a larger face beside the labelled one, and a face box
that is missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from norface.data.records import FaceRecord
from norface.images import encode_jpeg, resize_pixels
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.layouts.photographs import draw_faces, place_in_photograph

LABELS = {
    "surprise": 1, "fear": 2, "disgust": 3, "happiness": 4, "sadness": 5, "anger": 6, "neutral": 7,
}  # fmt: skip
ALIGNED_SIDE = 100
DIGITS = {"train": 5, "test": 4}
WITHOUT_BOX = 2
"Number of the face whose box is missing."


def write_aligned(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """The aligned pictures of 100x100 alone."""
    return write(root, settings, original=False)


def write_original(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """The aligned pictures, the photographs that they come from, and boxes of the faces.

    The records returned are those of pictures=original.
    """
    return write(root, settings, original=True)


def write(root: Path, settings: LayoutSettings, *, original: bool) -> list[FaceRecord]:
    """The tree; returns what a reader must find."""
    images, boxes = root / "basic" / "Image", root / "basic" / "Annotation" / "boundingbox"
    for folder in (root / "basic" / "EmoLabel", images / "aligned"):
        folder.mkdir(parents=True)
    if original:
        (images / "original").mkdir()
        boxes.mkdir(parents=True)
    counts = dict.fromkeys(DIGITS, 0)
    lines: list[str] = []
    found: list[FaceRecord] = []
    before: np.ndarray | None = None
    for face in draw_faces(settings, tuple(LABELS)):
        counts[face.split] += 1
        stem = f"{face.split}_{counts[face.split]:0{DIGITS[face.split]}d}"
        lines.append(f"{stem}.jpg {LABELS[face.emotion]}")
        written = stem.capitalize() if face.number % 5 == 1 else stem
        aligned = encode_jpeg(resize_pixels(face.pixels, ALIGNED_SIDE))
        (images / "aligned" / f"{written}_aligned.jpg").write_bytes(aligned)
        region = None
        if original:
            placed = place_in_photograph(face, before if face.number % 2 else None, settings.seed)
            before = face.pixels
            (images / "original" / f"{written}.jpg").write_bytes(encode_jpeg(placed.pixels))
            if face.number != WITHOUT_BOX:
                text = " ".join(f"{edge:.3f}" for edge in placed.box)
                (boxes / f"{stem}_boundingbox.txt").write_text(text + "\n", encoding="ascii")
                left, top, right, bottom = placed.box
                region = (float(left), float(top), float(right), float(bottom))
        found.append(
            FaceRecord(
                "rafdb",
                stem.replace("_", "-"),
                "basic",
                0,
                emotion=face.emotion,
                split=face.split,
                region=region,
            )
        )
    lines.append("train_99999.jpg 4")
    listed = root / "basic" / "EmoLabel" / "list_patition_label.txt"
    listed.write_text("\n".join(lines) + "\n", encoding="ascii")
    return found
