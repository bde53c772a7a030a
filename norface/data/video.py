"""Pictures inside videos: frames read one after another, each decoded once.

    count = count_frames("LeftVideoSN001_comp.avi")
    pixels = VideoFrame(Path("LeftVideoSN001_comp.avi"), count - 1).read()

Every process keeps the video that it read last open. A later picture is reached by decoding on, an
earlier one by starting over: jumping lands on another picture in many codecs, and a label that is
one picture off is worse than a slow read. So read the pictures of a video in their order.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from norface.data.open_files import LastOpened, state_of
from norface.errors import CorpusError
from norface.images import MAX_PIXELS

SUFFIXES = (".avi", ".mp4", ".mkv", ".mov", ".wmv")
"File names that count as videos, in any case of letters."


@dataclasses.dataclass(frozen=True)
class VideoFrame:
    """One picture of a video; a records.StoredPicture."""

    path: Path
    number: int
    "Place in the video, counted from 0, whatever the corpus counts from."

    def read(self) -> np.ndarray:
        """Pixels (H, W, 3), uint8, RGB.

        Raises CorpusError for a missing or damaged video, and for one that ends before the picture.
        """
        return _reading.at(self.path).read(self.number)

    def __str__(self) -> str:
        return f"{self.path}, picture {self.number} from 0"


def count_frames(path: str | Path) -> int:
    """Pictures of a video as its header says, or by counting where the header does not say.

    The header of a damaged file promises more than can be read; `VideoFrame.read` then tells.
    Raises CorpusError for a missing file and for what is no video.
    """
    with _opened(Path(path)) as capture:
        promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if promised > 0:
            return promised
        count = 0
        while capture.grab():
            count += 1
    if not count:
        raise CorpusError(f"{path}: holds no picture that can be read; copy the video again")
    return count


class _OpenVideo:
    """A video and how far it is decoded."""

    def __init__(self, path: Path):
        self.path = path
        self.capture = _open(path)
        self.grabbed = 0
        self.ended = False
        self.last: tuple[int, np.ndarray] | None = None

    def read(self, number: int) -> np.ndarray:
        if number < 0:
            raise CorpusError(f"{self.path}: picture {number} asked for; they count from 0")
        if self.last is not None and self.last[0] == number:
            return self.last[1].copy()
        if number < self.grabbed:
            self.close()
            self.capture, self.grabbed, self.ended = _open(self.path), 0, False
        while self.grabbed <= number:
            # Decoding goes on behind a damaged picture, but with a count that is no longer right.
            self.ended = self.ended or not self.capture.grab()
            if self.ended:
                raise CorpusError(
                    f"{self.path}: picture {number} (from 0) cannot be read, the video ends or is"
                    f" damaged after {self.grabbed} pictures; copy it again"
                )
            self.grabbed += 1
        good, found = self.capture.retrieve()
        if not good:
            raise CorpusError(f"{self.path}: picture {number} (from 0) is damaged; copy it again")
        pixels = cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
        self.last = (number, pixels)
        return pixels.copy()

    def close(self) -> None:
        self.capture.release()
        self.last = None


def _open(path: Path) -> cv2.VideoCapture:
    state_of(path)
    # FFmpeg alone: the other readers of OpenCV take numbered names for a series of pictures.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise CorpusError(f"{path}: not a video in a known format, or damaged; copy it again")
    sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    width, height = (int(capture.get(side)) for side in sides)
    if width * height > MAX_PIXELS:
        capture.release()
        raise CorpusError(
            f"{path}: pictures of {width}x{height} are more than 100 megapixels; refused"
        )
    return capture


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    capture = _open(path)
    try:
        yield capture
    finally:
        capture.release()


_reading: LastOpened[_OpenVideo] = LastOpened(_OpenVideo, _OpenVideo.close)
