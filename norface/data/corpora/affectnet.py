"""AffectNet: photographs from the web with one of eight emotions, in three layouts.

    (a) Manually_Annotated_Images/689/HASH.jpg + training.csv, validation.csv    (first release)
    (b) train_set/images/0.jpg + train_set/annotations/0_exp.npy, val_set/...    (later release)
    (c) train/3/NAME.jpg, val/3/NAME.jpg                                         (copies by class)

Columns of the tables and the way of their pictures: sb-ai-lab/EmotiEffLib#14; layout (b):
yaoing/DAN:affectnet.py and EmotiEffLib#14; layout (c):
kaiwang960112/Challenge-condition-FER-dataset#48. File names do not map between (a) and (b)
(face-analysis/emonet#10). In some copies of (a) the tables lie in Manually_Annotated_file_lists and
validation.csv has no line of names; both are read.

Codes: 0 neutral, 1 happiness, 2 sadness, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt (left
out with classes=7, as in the paper); 8 none, 9 uncertain and 10 no face are no emotion samples and
are left out by rule and counted. Copies by class that number their folders otherwise cannot be told
from this one: know what yours does.

Nobody is named, so every photograph is a subject of its own: validation subjects and the bootstrap
are by photograph, and one person may be in train and test unseen. Only training and validation are
public; validation is the test part here, and none is left to choose an epoch on (norface carves one
from train, see norface.data.official).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from norface.config import Config
from norface.data.corpora.affectnet_files import (
    Listed,
    by_number,
    read_code,
    read_table,
)
from norface.data.corpora.base import CorpusReader, find_path
from norface.data.corpora.folder import is_photograph, to_word
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
    0: "neutral", 1: "happiness", 2: "sadness", 3: "surprise", 4: "fear", 5: "disgust", 6: "anger",
    7: "contempt",
}  # fmt: skip
OTHER_CODES = {8: "none", 9: "uncertain", 10: "no face"}
"Codes of pictures that are no emotion samples."
TABLES = {"training.csv": "train", "validation.csv": "test"}
SETS = {"train_set": "train", "val_set": "test"}
ANNOTATION = "_exp.npy"

PUBLISHED: dict[int, Mapping[str, int]] = {
    7: {"samples": 287_401, "samples/train": 283_901, "samples/test": 3_500},
    8: {"samples": 291_568, "samples/train": 287_568, "samples/test": 4_000},
}
"By number of classes; texts differ by less than 100 in the training samples of eight."


class AffectNetOptions(Config):
    """Which emotions count."""

    classes: Literal[7, 8] = 7
    "7 leaves contempt out, 8 keeps it."


class AffectNetReader(CorpusReader):
    """AffectNet in any of its three layouts."""

    name = "affectnet"
    title = "AffectNet: photographs from the web with one of eight emotions"
    tree = """\
ROOT/                                          first release
  Manually_Annotated_Images/689/HASH.jpg
  training.csv, validation.csv                 here or in Manually_Annotated_file_lists/
or ROOT/                                       later release
  train_set/images/0.jpg
  train_set/annotations/0_exp.npy
  val_set/                                     likewise
or ROOT/                                       a copy with one folder a class, 0..10 or by name
  train/3/NAME.jpg
  val/3/NAME.jpg"""
    Options = AffectNetOptions

    def __init__(self, root: str | Path, options: Config | None = None):
        super().__init__(root, options)
        self.published = PUBLISHED[self.options.classes]

    def records(self) -> Iterator[FaceRecord]:
        places: dict[str, str] = {}
        for one in self._list():
            emotion = self._emotion(one.code, one.place)
            if emotion is None:
                continue
            if one.path is None:
                self.report(one.place, f"its picture {one.picture} is missing")
                continue
            record = FaceRecord(
                self.name,
                one.subject,
                one.clip,
                0,
                one.path,
                emotion=emotion,
                split=one.split,
                region=self._region(one) if one.box else None,
            )
            if (first := places.setdefault(record.key, one.place)) != one.place:
                self.report(one.place, f"{one.picture} comes twice; first at {first}")
                continue
            yield record

    def _list(self) -> Iterator[Listed]:
        """Everything in the layout that is there. Raises CorpusError for none of them."""
        images = find_path(self.root, "Manually_Annotated_Images")
        if images is not None or self._find_table("training.csv") is not None:
            return self._list_tables(images)
        if any(find_path(self.root, f"{name}/images") is not None for name in SETS):
            return self._list_arrays()
        if find_phases(self):
            return self._list_folders()
        raise self.misses("Manually_Annotated_Images, train_set or train")

    def _emotion(self, code: str, place: str) -> str | None:
        """The emotion of a code, None where it is left out by rule or reported as wrong."""
        number = to_number(code)
        if number in OTHER_CODES:
            self.left_out[f"{OTHER_CODES[int(number)]} (code {int(number)})"] += 1
        elif number not in EMOTION_CODES:
            self.report(place, f"the expression is {code!r}; valid: 0..10")
        elif EMOTION_CODES[int(number)] == "contempt" and self.options.classes == 7:
            self.left_out["contempt (classes=7)"] += 1
        else:
            return EMOTION_CODES[int(number)]
        return None

    def _region(self, one: Listed) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom in pixels; reported and None where the box is no box."""
        left, top, width, height = map(to_number, one.box)
        if not (math.isfinite(left + top) and 0 < width < math.inf and 0 < height < math.inf):
            self.report(
                one.place,
                f"the face box is {', '.join(one.box)}; the sample is kept, its face is looked for"
                " in the whole picture",
            )
            return None
        return left, top, left + width, top + height

    def _find_table(self, name: str) -> Path | None:
        """A table, beside the pictures or in the folder of tables."""
        places = (name, f"Manually_Annotated_file_lists/{name}")
        return next(
            (found for place in places if (found := find_path(self.root, place)) is not None), None
        )

    def _list_tables(self, images: Path | None) -> Iterator[Listed]:
        """Layout (a), training first. A photograph of both parts counts for the test alone."""
        if images is None:
            raise self.misses("Manually_Annotated_Images/")
        tables = {name: self._find_table(name) for name in TABLES}
        for name, table in tables.items():
            if table is None:
                raise self.misses(name)
        finder = PictureFinder(images)
        train, test = (
            read_table(self, table, TABLES[name], finder)
            for name, table in tables.items()
            if table is not None
        )
        tested = list(test)
        seen = {one.subject: one for one in tested if to_number(one.code) in EMOTION_CODES}
        for one in train:
            if one.subject in seen:
                self.report(
                    one.place,
                    f"{one.picture} is also a test picture ({seen[one.subject].place}); left out of"
                    " train",
                )
            else:
                yield one
        yield from tested
        finder.count_unasked(self)

    def _list_arrays(self) -> Iterator[Listed]:
        """Layout (b): by part and number."""
        for name, split in SETS.items():
            images = self.need(f"{name}/images")
            annotations = self.need(f"{name}/annotations")
            photographs: dict[str, Path] = {}
            for path in sorted(filter(is_photograph, images.iterdir())):
                if (first := photographs.setdefault(path.stem, path)) != path:
                    self.report(path, f"is a second picture of {path.stem}; {first.name} is used")
            arrays = {
                path.name[: -len(ANNOTATION)]: path
                for path in annotations.iterdir()
                if path.name.lower().endswith(ANNOTATION)
            }
            for stem in sorted(photographs.keys() | arrays.keys(), key=by_number):
                if stem not in arrays:
                    where = annotations / f"{stem}{ANNOTATION}"
                    self.report(photographs[stem], f"its annotation {where} is missing")
                    continue
                try:
                    code = read_code(arrays[stem])
                except CorpusError as error:
                    self.report(arrays[stem], str(error))
                    continue
                yield Listed(
                    place=str(arrays[stem]),
                    subject=to_word(f"{name}-{stem}"),
                    clip=split,
                    split=split,
                    code=code,
                    picture=f"{stem}.jpg",
                    path=photographs.get(stem),
                )

    def _list_folders(self) -> Iterator[Listed]:
        """Layout (c)."""
        codes = {str(code): str(code) for code in (*EMOTION_CODES, *OTHER_CODES)}
        code_of = {emotion: str(code) for code, emotion in EMOTION_CODES.items()}
        codes |= {word: code_of[emotion] for word, emotion in EMOTION_WORDS.items()}
        for picture, code in read_class_folders(self, codes):
            inside = picture.path.relative_to(self.root)
            yield Listed(
                place=str(picture.path),
                subject=to_word("-".join(inside.with_suffix("").parts)),
                clip=picture.split,
                split=picture.split,
                code=code,
                picture=picture.path.name,
                path=picture.path,
            )
