"""Pictures of what a user names: files, folders, videos."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from norface.data.corpora.folder import is_photograph
from norface.data.indexing import INDEX_NAME
from norface.data.listing import walk_files
from norface.data.video import SUFFIXES, VideoFrame, count_frames
from norface.errors import CorpusError
from norface.images import read_photo


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture to analyze."""

    path: Path
    frame: int | None = None
    "Picture of a video, from 0."

    @property
    def name(self) -> str:
        """For messages and tables."""
        return str(self.path) if self.frame is None else f"{self.path}:{self.frame}"

    def read(self) -> np.ndarray:
        """Upright pixels (H, W, 3). Raises CorpusError."""
        if self.frame is None:
            return read_photo(self.path)
        return VideoFrame(self.path, self.frame).read()


def list_pictures(places: Sequence[Path], every: int) -> Iterator[Picture | CorpusError]:
    """The pictures of files and folders in their order, and of videos every `every`-th; a video
    that cannot be opened comes as the error.

    Raises CorpusError, before the first, for a place that is not there or holds no picture.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise CorpusError(f"{place}: no such file or folder")
        if (place / INDEX_NAME).is_file():
            raise CorpusError(
                f"{place}: is a folder of shards; give photographs or videos (`norface export`"
                " makes pictures of shards)"
            )
        inside = sorted(walk_files(place)) if place.is_dir() else [place]
        usable = inside if place.is_file() else [one for one in inside if _is_usable(one)]
        if not usable:
            raise CorpusError(f"{place}: holds no photograph and no video")
        found += usable
    return _pictures(found, every)


def _is_usable(path: Path) -> bool:
    return is_photograph(path) or (
        path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _pictures(paths: Sequence[Path], every: int) -> Iterator[Picture | CorpusError]:
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            yield Picture(path)
            continue
        try:
            yield from (Picture(path, frame) for frame in range(0, count_frames(path), every))
        except CorpusError as error:
            yield error
