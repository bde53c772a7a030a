"""Samples whose picture is one colour that tells their number."""

import numpy as np

from norface.data.records import FaceRecord
from norface.images import encode_jpeg


def make_record(number, *, side=16, subject=None, **labels):
    """A face whose picture is one colour that tells its number."""
    colour = (number % 256, 40, 200)
    return FaceRecord(
        corpus="synthetic",
        subject=subject or f"S{number % 4:04d}",
        clip="c",
        frame=number,
        image=encode_jpeg(np.full((side, side, 3), colour, np.uint8)),
        **labels,
    )
