"""A small set in the manner of Emo135: folders of classes, and the yaml that describes them.

The layout of the real set is not public (see norface.data.corpora.emo135). Odd here: classes that
are none of our emotions, a class whose name a key cannot hold, one that the yaml forgets, and a
file that is no picture.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from norface.data.corpora.naming import key_part
from norface.data.records import FaceRecord
from norface.images import encode_jpeg
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.renderer import render

CLASSES: dict[str | None, str] = {
    "neutral": "neutral", "happiness": "happiness", "sadness": "sadness", "surprise": "surprise",
    "fear": "fear", "disgust": "disgust", "anger": "anger", "contempt": "contempt",
    None: "mixed feelings",
}  # fmt: skip
"Emotion of a face, None for a combination without a name => folder."
FINE, FORGOTTEN = "amusement", "nostalgia"
"A fine class that takes every third happy or unnamed face, and one that the yaml does not list."


def write(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """Write pictures in folders of classes, numbered through, and emo135.yaml."""
    records = []
    number = 0
    for subject in range(settings.subjects):
        for frame in settings.draw(subject):
            number += 1
            emotion, label = frame.emotion, CLASSES[frame.emotion]
            if number % 3 == 0 and emotion in (None, "happiness"):
                emotion, label = None, FINE
            if number == 1:
                label = FORGOTTEN
            folder = root / "images" / label
            folder.mkdir(parents=True, exist_ok=True)
            picture = encode_jpeg(render(frame.parameters, settings.side).pixels)
            (folder / f"{number:05d}.jpg").write_bytes(picture)
            if label == FORGOTTEN:
                continue
            own = f"{label}+{number:05d}"
            if " " in label:
                own = key_part(f"{label}/{number:05d}")
            records.append(FaceRecord("emo135", own, key_part(label), 0, emotion=emotion))
    (folder / "Thumbs.db").write_bytes(b"")
    classes: dict[str, str | None] = {label: emotion for emotion, label in CLASSES.items()}
    description = {"root": "images", "glob": "*/*", "classes": classes | {FINE: None}}
    (root / "emo135.yaml").write_text(
        yaml.safe_dump(description, sort_keys=False), encoding="utf-8"
    )
    return records
