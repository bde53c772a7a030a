"""RAF-DB (basic): photographs from the web with one of seven emotions.

Labels: basic/EmoLabel/list_patition_label.txt (the corpus's own spelling), lines `train_00001.jpg
5`, with 1 surprise, 2 fear, 3 disgust, 4 happiness, 5 sadness, 6 anger, 7 neutral; the part is the
name's beginning. Pictures: basic/Image/aligned/train_00001_aligned.jpg (100x100) or, with
pictures=original, basic/Image/original/train_00001.jpg (yaoing/DAN:rafdb.py). There the face may be
one of several; basic/Annotation/boundingbox/train_00001_boundingbox.txt (left, top, right, bottom)
says which, where it is there.

Copies with folders train/ and valid/ (Talented-Q/POSTER_V2:README.md) are read too; their class
folders are numbered 1..7 as above or named. Copies numbered from 0 are refused: what is 1 there is
2 here, and nothing else would tell.

Nobody is named, so every photograph is a subject of its own: validation subjects and the bootstrap
are by photograph, and one person may be in train and test unseen. There is no official validation
part; norface carves one from train (norface.data.official).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from norface.config import Config
from norface.data.corpora.base import CorpusReader, find_path
from norface.data.corpora.folder import to_word
from norface.data.corpora.numbers import to_number
from norface.data.corpora.pictures import (
    EMOTION_WORDS,
    PictureFinder,
    find_phases,
    read_class_folders,
)
from norface.data.records import FaceRecord
from norface.errors import CorpusError

EMOTION_CODES = {
    "1": "surprise", "2": "fear", "3": "disgust", "4": "happiness", "5": "sadness", "6": "anger",
    "7": "neutral",
}  # fmt: skip
LISTS = ("list_patition_label.txt", "list_partition_label.txt")
"The official name, and the one that a helpful hand gives it."
CLIP = "basic"
_NAME = re.compile(r"(train|test)_(\d+)(_aligned)?", re.IGNORECASE)


class RafDbOptions(Config):
    """Which pictures are read."""

    pictures: Literal["aligned", "original"] = "aligned"
    "aligned = the corpus's own crops of 100x100, original = the photographs from the web."


class RafDbReader(CorpusReader):
    """RAF-DB, basic emotions, official or by class folders."""

    name = "rafdb"
    title = "RAF-DB (basic): photographs from the web with one of seven emotions"
    tree = """\
ROOT/
  basic/EmoLabel/list_patition_label.txt
  basic/Image/aligned/train_00001_aligned.jpg
  basic/Image/original/train_00001.jpg         with pictures=original
or ROOT/                                       a copy with one folder a class, 1..7 or by name
  train/4/train_00001_aligned.jpg
  valid/4/test_0001_aligned.jpg"""
    published = {"samples": 15_339, "samples/train": 12_271, "samples/test": 3_068}
    Options = RafDbOptions

    def records(self) -> Iterator[FaceRecord]:
        for place in ("basic/EmoLabel", "EmoLabel"):
            for name in LISTS:
                if (table := find_path(self.root, f"{place}/{name}")) is not None:
                    return self._read_list(table)
        if find_path(self.root, "basic") is None and find_phases(self):
            return self._read_folders()
        raise self.misses(f"basic/EmoLabel/{LISTS[0]}")

    def _read_list(self, table: Path) -> Iterator[FaceRecord]:
        base, aligned = table.parents[1], self.options.pictures == "aligned"
        images = find_path(base, f"Image/{self.options.pictures}")
        if images is None:
            raise self.misses(f"basic/Image/{self.options.pictures}/")
        finder, boxes = PictureFinder(images), PictureFinder(base)
        lines: dict[str, int] = {}
        for number, (name, code) in read_lines(self, table):
            place = f"{table}:{number}"
            found = _NAME.fullmatch(Path(name).stem)
            if found is None:
                self.report(place, f"'{name}' is neither train_NUMBER nor test_NUMBER")
                continue
            split, stem = found[1].lower(), f"{found[1]}_{found[2]}"
            picture = f"{stem}_aligned.jpg" if aligned else f"{stem}.jpg"
            path = finder.find(picture)
            if code not in EMOTION_CODES:
                self.report(place, f"the label of {name} is {code!r}; valid: 1..7")
                continue
            if (first := lines.setdefault(stem.lower(), number)) != number:
                self.report(place, f"{name} comes twice; first on line {first}")
                continue
            if path is None:
                self.report(place, f"its picture {images / picture} is missing")
                continue
            box = None
            if not aligned:
                box = boxes.find(f"Annotation/boundingbox/{stem}_boundingbox.txt")
            yield FaceRecord(
                self.name,
                to_word(stem.lower()),
                CLIP,
                0,
                path,
                emotion=EMOTION_CODES[code],
                split=split,
                region=None if box is None else self._read_box(box),
            )
        finder.count_unasked(self)

    def _read_box(self, path: Path) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom in pixels; reported and None where the file holds no box."""
        try:
            numbers = [to_number(word) for word in path.read_text(encoding="ascii").split()]
        except (OSError, UnicodeDecodeError):
            numbers = []
        if len(numbers) != 4 or not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
            self.report(
                path,
                "no face box (left top right bottom); the sample is kept, its face is looked for in"
                " the whole picture",
            )
            return None
        left, top, right, bottom = numbers
        return left, top, right, bottom

    def _read_folders(self) -> Iterator[FaceRecord]:
        if self.options.pictures == "original":
            raise CorpusError(
                f"{self.root}: pictures=original needs the official layout, this is a copy by class"
                " folders; leave the option out"
            )
        codes = EMOTION_CODES | {
            word: emotion for word, emotion in EMOTION_WORDS.items() if emotion != "contempt"
        }
        places: dict[str, Path] = {}
        for picture, emotion in read_class_folders(self, codes):
            found = _NAME.fullmatch(picture.path.stem)
            if found is not None and found[1].lower() != picture.split:
                self.report(
                    picture.path,
                    f"a picture of the official {found[1].lower()} part among those to"
                    f" {picture.split} on; not used",
                )
                continue
            if found is not None:
                subject = to_word(f"{found[1]}_{found[2]}".lower())
            else:
                inside = picture.path.relative_to(self.root)
                subject = to_word("-".join(inside.with_suffix("").parts))
            if (first := places.setdefault(subject, picture.path)) != picture.path:
                self.report(picture.path, f"comes twice; first as {first}")
                continue
            yield FaceRecord(
                self.name, subject, CLIP, 0, picture.path, emotion=emotion, split=picture.split
            )


def read_lines(reader: CorpusReader, table: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """(line number, (name, label)) of every line that is not empty.

    Lines of other than two words are reported. Raises CorpusError for what is no text.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CorpusError(f"{table}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{table}: not a text in UTF-8 ({error})") from None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if len(words) == 2:
            yield number, (words[0], words[1])
        elif words:
            reader.report(
                f"{table}:{number}", f"found {line.strip()!r}; expected a name and a label"
            )
