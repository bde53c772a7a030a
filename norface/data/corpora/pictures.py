"""What lists and folders say: pictures by name, emotions by class folder, numbers.

A list and a disk often disagree in the case of letters (train_00001.jpg, Train_00001.JPG). Folders
are listed once each, so a corpus of half a million pictures costs half a million look-ups in memory
and no second walk over the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from norface.data.corpora.base import CorpusReader
from norface.data.corpora.folder import SUFFIXES, is_photograph
from norface.errors import CorpusError

EMOTION_WORDS: dict[str, str] = {
    "neutral": "neutral", "happy": "happiness", "happiness": "happiness", "sad": "sadness",
    "sadness": "sadness", "surprise": "surprise", "fear": "fear", "disgust": "disgust",
    "anger": "anger", "angry": "anger", "contempt": "contempt",
}  # fmt: skip
"Words for emotions in lists and folder names, in small letters => labels.EMOTIONS."

TRAIN_FOLDERS = ("train", "train_set", "training")
TEST_FOLDERS = ("val", "valid", "val_set", "validation", "test", "test_set")
"Names of the official parts in copies; only one of the second is public in any corpus."


class PictureFinder:
    """Pictures below a folder by relative name, whatever the case of its letters.

    An exact name wins; of several that differ in case only, the first in alphabetical order.
    """

    def __init__(self, root: Path):
        self.root = root
        self._folders: dict[Path, tuple[set[str], dict[str, str]]] = {}
        self._found: dict[Path, set[str]] = {}

    def find(self, relative: str) -> Path | None:
        """root/relative, None where it is not there or leads out of the root."""
        parts = PurePosixPath(relative.replace("\\", "/")).parts
        if not parts or parts[0] == "/" or ".." in parts:
            return None
        folder = place = self.root
        for part in parts:
            exact, by_lower = self._list(place)
            name = part if part in exact else by_lower.get(part.lower())
            if name is None:
                return None
            folder, place = place, place / name
        self._found.setdefault(folder, set()).add(place.name)
        return place

    def count_unasked(self, reader: CorpusReader) -> None:
        """Count among what is left out the photographs beside those that were found."""
        names = [
            folder.relative_to(self.root) / name
            for folder, found in sorted(self._found.items())
            for name in sorted(self._folders[folder][0] - found)
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
        if names:
            reader.left_out[f"photographs that no list names, first {names[0]}"] += len(names)

    def _list(self, folder: Path) -> tuple[set[str], dict[str, str]]:
        if folder not in self._folders:
            try:
                names = sorted(os.listdir(folder), reverse=True)
            except (FileNotFoundError, NotADirectoryError):
                names = []
            self._folders[folder] = set(names), {name.lower(): name for name in names}
        return self._folders[folder]


class ClassPicture(NamedTuple):
    """A picture of a copy with one folder a class."""

    path: Path
    split: str
    "train or test."
    code: str
    "Name of the class folder."


def find_phases(reader: CorpusReader) -> dict[str, Path]:
    """The folders of the official parts, {"train": ..., "test": ...}, as far as they are there.

    Raises CorpusError for a copy with several test parts: its split is not the official one.
    """
    if not reader.root.is_dir():
        return {}
    folders = sorted(path for path in reader.root.iterdir() if path.is_dir())
    found: dict[str, Path] = {}
    for split, names in (("train", TRAIN_FOLDERS), ("test", TEST_FOLDERS)):
        same = [path for path in folders if path.name.lower() in names]
        if len(same) > 1:
            raise CorpusError(
                f"{reader.root}: has {' and '.join(path.name for path in same)}; {reader.name} has"
                f" one public {split} part, so this copy is split otherwise. Keep the official"
                " part alone in a folder of its own"
            )
        if same:
            found[split] = same[0]
    return found


def read_class_folders(
    reader: CorpusReader, codes: Mapping[str, str]
) -> Iterator[tuple[ClassPicture, str]]:
    """(picture, what `codes` gives for its class folder), by part, class and name.

    codes: name of a class folder, in small letters => emotion, or whatever the reader makes of it.
    Raises CorpusError for a part that is missing and for a class folder that is in no list: guessed
    labels are worse than none.
    """
    phases = find_phases(reader)
    for split, expected in (("train", "train/"), ("test", "val/")):
        if split not in phases:
            raise reader.misses(expected)
        folders = [path for path in sorted(phases[split].iterdir()) if path.is_dir()]
        folders = [path for path in folders if not path.name.startswith(".")]
        if not folders:
            raise reader.misses(f"{phases[split].name}/CLASS/")
        for folder in folders:
            if folder.name.lower() not in codes:
                raise CorpusError(
                    f"{folder}: '{folder.name}' is no class of {reader.name}; class folders are"
                    f" named {', '.join(codes)}"
                )
        for folder in folders:
            for path in sorted(folder.iterdir()):
                if is_photograph(path):
                    yield ClassPicture(path, split, folder.name), codes[folder.name.lower()]
                elif not path.name.startswith("."):
                    reader.report(path, "is no photograph")
