"""A small CASIA-WebFace, as an archive and as folders, and what is odd in copies.

Odd in the archive: labels that are lists, a picture that holds RecordIO's magic number and so is
cut into parts, and a record whose label is no number. Odd in the folders: a picture without a
number for a name, a person's name with signs that a key cannot hold, and files that are no picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from norface.data.corpora.naming import key_part
from norface.data.recordio import MAGIC, RecordWriter, pack_picture
from norface.data.records import FaceRecord
from norface.errors import ConfigError
from norface.images import encode_jpeg, resize_pixels
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.renderer import render
from norface.synthetic.sampling import Frame

SIDE = 112
"""Pixels of a picture of the archive, aligned for face recognition
(deepinsight/insightface:recognition/arcface_torch works at this side)."""
SIDE_IN_FOLDERS = 250


def write(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """Write train.rec and train.idx; the record behind the pictures of the last person is odd."""
    pictures = settings.subjects * settings.frames + 1
    records = []
    with RecordWriter(root / "train.rec") as archive:
        head = (float(pictures + 1), float(pictures + 1 + settings.subjects))
        archive.write(0, pack_picture(head, b""))
        key = 0
        for subject in range(settings.subjects):
            for number, frame in enumerate(settings.draw(subject)):
                key += 1
                picture = encode(frame, settings.side, SIDE)
                if number == 1:
                    picture = add_comment(picture)
                label: float | Sequence[float] = float(subject)
                if number % 3 == 2:
                    label = (float(subject), 1.0)
                archive.write(key, pack_picture(label, picture, identifier=key))
                records.append(FaceRecord("webface", str(subject), "picture", key))
        archive.write(pictures, pack_picture(math.nan, picture, identifier=pictures))
        for subject in range(settings.subjects):
            first = 1 + subject * settings.frames
            people = (float(first), float(first + settings.frames))
            archive.write(pictures + 1 + subject, pack_picture(people, b""))
    return records


def write_folders(root: Path, settings: LayoutSettings) -> list[FaceRecord]:
    """Write a folder a person; the last one's is named, not numbered."""
    if settings.subjects < 2:
        raise ConfigError("subjects: webface-folders needs at least 2 persons, a folder each")
    records = []
    for subject in range(settings.subjects):
        person = f"{45 + 54 * subject:07d}"
        if subject == settings.subjects - 1:
            person = "Ana_María"
        folder = root / person
        folder.mkdir()
        for number, frame in enumerate(settings.draw(subject), 1):
            last = number == settings.frames
            name, clip, count = f"{number:03d}", "picture", number
            if last:
                name, clip, count = "portrait", "portrait", 0
            picture = encode(frame, settings.side, SIDE_IN_FOLDERS)
            (folder / f"{name}.jpg").write_bytes(picture)
            records.append(FaceRecord("webface", key_part(person), clip, count))
        (folder / "Thumbs.db").write_bytes(b"")
    (root / "names.txt").write_text("a list that nobody reads\n", encoding="utf-8")
    return records


def encode(frame: Frame, side: int, size: int) -> bytes:
    """JPEG of a face rendered at `side` and stored at `size` pixels."""
    return encode_jpeg(resize_pixels(render(frame.parameters, side).pixels, size))


def add_comment(picture: bytes) -> bytes:
    """A JPEG with a comment that holds RecordIO's magic number where a record is cut.

    The comment follows the 2 bytes that begin a JPEG, its own 4 follow, and the header before them
    is a multiple of 4: two more bytes and the number stands at a multiple of 4.
    """
    text = b"\0\0" + MAGIC.to_bytes(4, "little") * 2
    return picture[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + picture[2:]
