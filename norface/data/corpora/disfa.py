"""DISFA: 27 persons watching one film each, 12 action units with intensities in every frame.

Mavadati et al., DISFA, IEEE Transactions on Affective Computing 2013. What is where:
- ActionUnit_Labels/SN001/SN001_au1.txt: a line "frame,intensity" for each frame, counted from 1.
  A file is taken for the unit in its name; one loader that went by the order of the listing mixed
  the units up (ihp-lab/LibreFace#2).
- Videos_LeftCamera/LeftVideoSN001_comp.avi, Video_RightCamera/...: spelling and capitals differ
  from copy to copy. Line 1 is the first picture (forever208/FMAE-IAT AU/DISFA_preprocess.py).
- Or pictures that somebody took from the videos, SN001/0.png. ME-GraphAU counts them from 0
  (CVI-SZU/ME-GraphAU#2), FMAE and LibreFace from 1; the smallest number of all persons tells, or
  first_frame.

A unit is present from intensity 2 on (CVI-SZU/ME-GraphAU tool/DISFA_image_label_process.py;
labels.is_present). The camera is the clip in the keys: "left" or "right". ME-GraphAU reads the
left one, FMAE and LibreFace the right one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from norface.config import Config
from norface.data.corpora.au_tables import (
    Pictures,
    Report,
    holds_picture,
    is_video,
    list_pictures,
    list_video,
    name_ranges,
    read_levels,
)
from norface.data.corpora.base import CorpusReader
from norface.data.labels import is_present
from norface.data.records import FaceRecord
from norface.errors import CorpusError

UNITS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
"Every unit that DISFA and DISFA+ code."
SUBJECTS = tuple(
    f"SN{number:03d}" for number in (*range(1, 14), *range(16, 19), 21, *range(23, 33))
)
"Names of the 27 persons (parts of ZhiwenShao/PyTorch-JAANet data/list)."

_TABLE = re.compile(r"(SN\d{3})_au(\d+)\.txt", re.IGNORECASE)
_VIDEO = re.compile(r"(left|right)_?video_?(SN\d{3})(?:_?comp)?", re.IGNORECASE)
_FOLDER = re.compile(r"(?:(left|right)_?video_?)?(SN\d{3})(?:_?comp)?", re.IGNORECASE)


class DisfaOptions(Config):
    """Which of the two cameras, and where the pictures are."""

    camera: Literal["left", "right"] = "left"
    "Which camera's videos; for a folder of pictures: which camera they are of."
    pictures: Path | None = None
    "Folder with SN001/0.png, to be read in place of the videos; null = videos, else such a folder."
    first_frame: Literal[0, 1] | None = None
    "Number of the first picture in a folder of pictures; null = the smallest that is there."


class DisfaReader(CorpusReader):
    """The frames of DISFA from one camera, by person and frame."""

    name = "disfa"
    title = "DISFA: 27 persons, 12 action units with intensities"
    tree = """\
ROOT/
  ActionUnit_Labels/SN001/SN001_au1.txt ... SN001_au26.txt
  Videos_LeftCamera/LeftVideoSN001_comp.avi     or Videos_RightCamera/... with camera=right
  SN001/0.png                                   pictures in place of videos: in ROOT, one or two
                                                folders below, or anywhere: pictures=FOLDER"""
    published = {"samples": 130_814, "subjects": 27}
    Options = DisfaOptions

    def records(self) -> Iterator[FaceRecord]:
        """Raises CorpusError without labels, without pictures, or where those cannot be matched."""
        tables = self._find_tables(self.need("ActionUnit_Labels"))
        places = self._find_pictures()
        films = [place for place in places.values() if place.is_file()]
        images: dict[str, Pictures] = {}
        for subject, place in sorted(places.items()):
            images[subject] = (list_video if place in films else list_pictures)(place, self.report)
        first = 1 if films else self._first_number(images)
        for subject in sorted(places.keys() - tables.keys()):
            self.report(places[subject], f"there are no labels of {subject}; pictures not used")
        for subject, of_unit in sorted(tables.items()):
            coded = join_levels(of_unit, self.report)
            # Line 1 of the labels is the first picture, whatever its number.
            shown = {number - first + 1: image for number, image in images.get(subject, {}).items()}
            where = places.get(subject)
            self._report_unmatched(of_unit[min(of_unit)].parent, where, coded, shown)
            for frame in sorted(coded.keys() & shown.keys()):
                intensity = coded[frame]
                yield FaceRecord(
                    self.name,
                    subject,
                    self.options.camera,
                    frame,
                    shown[frame],
                    presence=presence_of(intensity),
                    intensity=intensity,
                )

    def _report_unmatched(
        self, folder: Path, place: Path | None, coded: Pictures | dict, shown: Pictures
    ) -> None:
        """Every frame of DISFA has labels, so what is without a partner is a problem."""
        if lost := coded.keys() - shown.keys():
            where = "there are no pictures" if place is None else f"no picture in {place}"
            self.report(folder, f"{len(lost)} coded frames not used, {where}: {name_ranges(lost)}")
        if place is not None and (extra := shown.keys() - coded.keys()):
            what = f"{len(extra)} pictures not used, no label in {folder}, frames"
            self.report(place, f"{what} {name_ranges(extra)} (counted from 1)")

    def _find_tables(self, folder: Path) -> dict[str, dict[int, Path]]:
        """Subject => unit => table. Raises CorpusError where there is none."""
        found: dict[str, dict[int, Path]] = {}
        for of_subject in sorted(path for path in folder.iterdir() if path.is_dir()):
            for path in sorted(of_subject.iterdir()):
                if path.suffix.lower() != ".txt" or path.name.startswith("."):
                    continue
                match = _TABLE.fullmatch(path.name)
                if match is None or match[1].upper() != of_subject.name.upper():
                    self.report(path, f"not named like {of_subject.name}_au1.txt; not used")
                elif match[1].upper() not in SUBJECTS:
                    self.report(path, f"{match[1].upper()} is not in {self.name}; not used")
                elif (unit := int(match[2])) not in UNITS:
                    self.report(path, f"{self.name} does not code AU{unit}; not used")
                elif unit in (tables := found.setdefault(match[1].upper(), {})):
                    self.report(path, f"{tables[unit].name} is of AU{unit} too; not used")
                else:
                    tables[unit] = path
        if not found:
            raise self.misses(f"{folder.relative_to(self.root)}/SN001/SN001_au1.txt")
        return found

    def _find_pictures(self) -> dict[str, Path]:
        """Subject => video or folder of pictures. Raises CorpusError for none or several."""
        camera, given = self.options.camera, self.options.pictures
        if given is not None:
            if not given.is_dir():
                raise CorpusError(f"pictures={given}: no such folder")
            if not (found := self._list_folders(given)):
                raise CorpusError(f"pictures={given}: has no SN001/0.png; give another folder")
            return found
        below = [path for path in sorted(self.root.iterdir()) if path.is_dir()]
        if videos := self._list_videos([self.root, *below]):
            return videos
        deeper = [path for one in below for path in sorted(one.iterdir()) if path.is_dir()]
        places = [p for p in (self.root, *below, *deeper) if self._may_show(p, camera)]
        films = [(place, found) for place in places if (found := self._list_folders(place))]
        if not films:
            raise self.misses(f"Videos_{camera.title()}Camera/{camera.title()}VideoSN001_comp.avi")
        if len(films) > 1:
            names = ", ".join(str(place) for place, _ in films)
            raise CorpusError(f"{self.root}: pictures in {names}; choose with pictures=FOLDER")
        return films[0][1]

    def _may_show(self, place: Path, camera: str) -> bool:
        """Whether a folder's name does not say that it is of the other camera."""
        other = "right" if camera == "left" else "left"
        return other not in str(place.relative_to(self.root)).lower()

    def _list_videos(self, places: Sequence[Path]) -> dict[str, Path]:
        """Subject => video of the chosen camera."""
        found: dict[str, Path] = {}
        for path in (path for place in places for path in sorted(place.iterdir())):
            match = _VIDEO.fullmatch(path.stem)
            if match and is_video(path) and match[1].lower() == self.options.camera:
                self._take(found, match[2].upper(), path)
        return found

    def _list_folders(self, place: Path) -> dict[str, Path]:
        """Subject => folder of pictures numbered by frame."""
        found: dict[str, Path] = {}
        for path in sorted(place.iterdir()):
            match = _FOLDER.fullmatch(path.name)
            if match is None or not path.is_dir() or not holds_picture(path):
                continue
            if (match[1] or self.options.camera).lower() == self.options.camera:
                self._take(found, match[2].upper(), path)
        return found

    def _take(self, found: dict[str, Path], subject: str, path: Path) -> None:
        if subject not in SUBJECTS:
            self.report(path, f"{subject} is not in {self.name}; not used")
        elif subject in found:
            self.report(path, f"{found[subject]} shows {subject} too; not used")
        else:
            found[subject] = path

    def _first_number(self, images: dict[str, Pictures]) -> int:
        """What the pictures are counted from. Raises CorpusError where they do not tell."""
        if (given := self.options.first_frame) is not None:
            return given
        # Over all persons: one whose picture 0 is lost must not be shifted against the others.
        smallest = min(min(numbers) for numbers in images.values() if numbers)
        if smallest > 1:
            raise CorpusError(
                f"{self.root}: the smallest number of a picture is {smallest}; say with"
                " first_frame=0 or first_frame=1 which number the first picture of a film has"
            )
        return smallest


def join_levels(
    tables: dict[int, Path],
    report: Report,
    *,
    frame_of: Callable[[str], int | None] | None = None,
) -> dict[int, dict[int, float]]:
    """Unit => table  =>  frame => unit => intensity.

    A unit without a table, and frames that one unit's table lacks, are reported; those labels are
    absent, the others stay.
    """
    folder = tables[min(tables)].parent
    if missing := [unit for unit in UNITS if unit not in tables]:
        report(folder, f"there is no table of AU{', AU'.join(map(str, missing))}")
    levels = {
        unit: read_levels(tables[unit], report, not_coded=None, frame_of=frame_of)
        for unit in sorted(tables)
    }
    coded: dict[int, dict[int, float]] = {}
    for unit, of_unit in levels.items():
        for frame, level in of_unit.items():
            coded.setdefault(frame, {})[unit] = level
    for unit, of_unit in levels.items():
        if absent := coded.keys() - of_unit.keys():
            report(tables[unit], f"no intensity of AU{unit} in frames {name_ranges(absent)}")
    return coded


def presence_of(intensity: dict[int, float]) -> dict[int, int]:
    """Unit => 1 from intensity 2 on, else 0."""
    return {unit: int(is_present(level)) for unit, level in intensity.items()}
