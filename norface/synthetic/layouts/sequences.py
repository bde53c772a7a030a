"""What the layouts of the action-unit corpora share: photographs, films, and coders' whole levels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from norface.data.labels import is_present
from norface.errors import ConfigError, CorpusError
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.parameters import FaceParameters
from norface.synthetic.renderer import render

FRAMES_PER_SECOND = 25


def name_subjects(settings: LayoutSettings, names: Sequence[str], corpus: str) -> Sequence[str]:
    """The first `settings.subjects` names. Raises ConfigError where there are not as many."""
    if settings.subjects > len(names):
        raise ConfigError(
            f"subjects: found {settings.subjects}; {corpus} has {len(names)} persons, give at most"
            " as many"
        )
    return names[: settings.subjects]


def draw_photographs(
    settings: LayoutSettings, subject: int, first: int = 0
) -> Iterator[tuple[np.ndarray, dict[int, int]]]:
    """(photograph, unit => level as a coder writes it) of each frame of a person."""
    for frame in settings.draw(subject, first):
        levels = {unit: int(level + 0.5) for unit, level in frame.parameters.intensity.items()}
        yield take_photograph(frame.parameters, settings.side), levels


def take_photograph(parameters: FaceParameters, side: int) -> np.ndarray:
    """Pixels (about 1.5 side, 2 side, 3): a face of `side` pixels in the middle of its room.

    The room has the mean colour of the face picture's upper border.
    """
    face = render(parameters, side).pixels
    # Even sizes, since some video encoders know no others.
    height, width = side + side // 4 * 2, side + side // 2 * 2
    room = np.empty((height, width, 3), np.uint8)
    room[:] = face[0].mean(0).round()
    top, left = side // 4, side // 2
    room[top : top + side, left : left + side] = face
    return room


def presence_of_levels(levels: dict[int, int], units: Iterable[int]) -> dict[int, int]:
    """Unit => 0 or 1, by the toolkit's rule for intensities."""
    return {unit: int(is_present(levels.get(unit, 0))) for unit in units}


def write_film(path: Path, pictures: Iterable[np.ndarray]) -> None:
    """Pictures (H, W, 3) as a Motion-JPEG film. Raises CorpusError where it cannot be written."""
    writer: cv2.VideoWriter | None = None
    for pixels in pictures:
        if writer is None:
            height, width = pixels.shape[:2]
            code = cv2.VideoWriter.fourcc(*"MJPG")
            writer = cv2.VideoWriter(
                str(path), cv2.CAP_FFMPEG, code, FRAMES_PER_SECOND, (width, height)
            )
            if not writer.isOpened():
                raise CorpusError(f"{path}: OpenCV cannot write a Motion-JPEG film here")
        writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if writer is not None:
        writer.release()
