"""The picture of a record, wherever it lies, and records cut into pieces of work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from norface.data.records import FaceRecord, StoredPicture
from norface.errors import CorpusError
from norface.images import decode_photo, read_photo

FEWEST, MOST = 8, 250
"""Records of a piece. Frames of a video are read fastest one after the other, so a run of them is
cut at MOST only, which also limits the pictures (about 7 MB) that wait for a slower piece."""


def picture_place(record: FaceRecord) -> str:
    """Where the picture lies, for lists and messages."""
    return record.key if isinstance(record.image, bytes | None) else str(record.image)


def read_picture(record: FaceRecord) -> np.ndarray:
    """Upright pixels (H, W, 3) of a photograph, of its encoded bytes or of a stored picture.

    Raises CorpusError for a record without a picture, and for a damaged one.
    """
    image = record.image
    if isinstance(image, Path):
        return read_photo(image)
    if isinstance(image, bytes):
        return decode_photo(image, record.key)
    if isinstance(image, StoredPicture):
        return image.read()
    raise CorpusError(f"{record.key}: has no picture")


def cut_pieces(records: Iterable[FaceRecord]) -> Iterator[list[FaceRecord]]:
    """Records in their order, in lists for one worker each.

    A run of stored pictures of one person and clip stays whole up to MOST records; short runs, and
    pictures in files of their own, are put together to FEWEST.
    """
    piece: list[FaceRecord] = []
    for _, run in groupby(records, key=_run_of):
        for record in run:
            piece.append(record)
            if len(piece) >= (MOST if isinstance(record.image, StoredPicture) else FEWEST):
                yield piece
                piece = []
        if len(piece) >= FEWEST:
            yield piece
            piece = []
    if piece:
        yield piece


def _run_of(record: FaceRecord) -> tuple[str, ...]:
    stored = isinstance(record.image, StoredPicture)
    return (record.corpus, record.subject, record.clip) if stored else ()
