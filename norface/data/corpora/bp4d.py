"""BP4D: 41 persons in 8 tasks, action units coded in one segment of each.

Zhang et al., BP4D-Spontaneous, IVC 2014. What is where, and what is odd about it:
- AUCoding/F001_T1.csv, or AUCoding/AU_OCC/F001_T1.csv in the later hand-out: a header row, then a
  row for each coded frame: its number, and 0, 1 or 9 (not coded) for each unit (CVI-SZU/ME-GraphAU
  tool/BP4D_image_label_process.py; machanic/AU_R-CNN).
- AU-Intensity-Codes3.0/AU06/F001_T1_AU06.csv, or AUCoding/AU_INT/AU06/...: frame and 0..5, without
  a header, for AU6 10 12 14 17; 9 is not coded. They are optional. Presence is never taken from
  them: BP4D codes it on its own.
- F001/T1/2440.jpg: zeros before the number come and go from sequence to sequence. Or videos,
  2F01_T5.avi, or 2F01_09.avi by the number of the session (forever208/FMAE-IAT
  AU/BP4D_preprocess.py); the n-th picture of a video is frame n.

A frame without any coded unit of labels.ACTION_UNITS is left out; other units (AU11, 13, 16, ...)
are not read.

BP4D+ has the same names for other persons, so one folder read as the other corpus would train and
test on the wrong people. What only the other one has is refused: of BP4D+ persons from F024 or M019
on and tasks T9 and T10, of BP4D tables of T2 to T5. A part of BP4D with tables of T1, T6, T7 and T8
alone cannot be told from BP4D+.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from norface.config import Config
from norface.data.corpora.au_tables import (
    NOT_CODED,
    name_ranges,
    read_levels,
    read_occurrence,
)
from norface.data.corpora.base import CorpusReader, find_path
from norface.data.corpora.bp4d_sequences import Place, Sequence, list_sequences
from norface.data.labels import DETECTION_UNITS
from norface.data.records import FaceRecord
from norface.errors import CorpusError

INTENSITY_CODED = (6, 10, 12, 14, 17)
"Units with intensities (EvelynFan/FAU#1; ubicomplab/rPPG-Toolbox AU_int_num)."
SESSIONS = {1: 1, 3: 2, 7: 3, 8: 4, 9: 5, 10: 6, 11: 7, 13: 8}
"Number of a session => task, in the names of some copies (FMAE-IAT AU/BP4D_preprocess.py)."
OTHER_DATA = ("aucoding", "physiology", "thermal", "irfeatures", "2dfeatures", "3dfeatures")
"Folders that never hold the photographs (ubicomplab/rPPG-Toolbox BP4DPlusBigSmallLoader.py)."

_TABLE = re.compile(r"([FM]\d{3})_T(\d+)\.csv", re.IGNORECASE)
_LEVELS = re.compile(r"([FM]\d{3})_T(\d+)_AU(\d+)\.csv", re.IGNORECASE)


class People(NamedTuple):
    """The persons and tasks of one of the two corpora."""

    corpus: str
    women: int
    men: int
    tasks: int
    coded_tasks: tuple[int, ...]

    def has(self, subject: str) -> bool:
        """Whether a person of this name (F001, M018) is in it."""
        return 1 <= int(subject[1:]) <= (self.women if subject[0] == "F" else self.men)


BP4D_PEOPLE = People("bp4d", 23, 18, 8, tuple(range(1, 9)))
BP4D_PLUS_PEOPLE = People("bp4dplus", 82, 58, 10, (1, 6, 7, 8))


class Bp4dOptions(Config):
    """Where the photographs are."""

    pictures: Path | None = None
    """Folder with F001/T1/2440.jpg or 2F01_T5.avi; null = ROOT, or the one folder in it that has
    them."""


class Bp4dReader(CorpusReader):
    """The coded frames of BP4D, by person, task and frame."""

    name = "bp4d"
    title = "BP4D: 41 persons, 8 tasks, action units and five intensities"
    tree = """\
ROOT/
  AUCoding/F001_T1.csv                         or AUCoding/AU_OCC/F001_T1.csv
  AU-Intensity-Codes3.0/AU06/F001_T1_AU06.csv  or AUCoding/AU_INT/AU06/...; may be missing
  F001/T1/2440.jpg                             or videos, 2F01_T1.avi; in ROOT or one folder below,
                                               or anywhere: pictures=FOLDER"""
    published = {"samples": 146_847, "subjects": 41}
    Options = Bp4dOptions

    people: ClassVar[People] = BP4D_PEOPLE
    other: ClassVar[People] = BP4D_PLUS_PEOPLE
    "The corpus with the same names for other persons."
    sessions: ClassVar[dict[int, int]] = SESSIONS
    "Number of a session in a file name => task."

    def records(self) -> Iterator[FaceRecord]:
        """Raises CorpusError without AUCoding, without any table in it, or without photographs."""
        coding = self.need("AUCoding")
        tables = self._find_tables(coding)
        levels = self._find_levels(coding)
        pictures = self._find_pictures(self._picture_folder())
        for sequence in sorted(pictures.keys() - tables.keys()):
            if sequence.task in self.people.coded_tasks:
                self.report(pictures[sequence].path, f"there is no table {sequence}.csv; not used")
        for sequence, table in sorted(tables.items()):
            presence = read_occurrence(table, self.report, DETECTION_UNITS[self.name])
            intensity = self._read_intensity(sequence, levels)
            coded = {
                frame: (presence.get(frame, {}), intensity.get(frame, {}))
                for frame in sorted({*presence, *intensity})
            }
            coded = {frame: labels for frame, labels in coded.items() if any(labels)}
            yield from self._join(sequence, table, coded, pictures.get(sequence))

    def _join(
        self,
        sequence: Sequence,
        table: Path,
        coded: dict[int, tuple[dict[int, int], dict[int, float]]],
        place: Place | None,
    ) -> Iterator[FaceRecord]:
        """Records of the coded frames that have a picture; the others are one problem."""
        images = {} if place is None else place.pictures(self.report)
        if lost := coded.keys() - images.keys():
            where = (
                "there are no pictures of it" if place is None else f"no picture in {place.path}"
            )
            self.report(table, f"{len(lost)} coded frames not used, {where}: {name_ranges(lost)}")
        for frame, (presence, intensity) in coded.items():
            if frame in images:
                yield FaceRecord(
                    self.name,
                    sequence.subject,
                    f"T{sequence.task}",
                    frame,
                    images[frame],
                    presence=presence,
                    intensity=intensity,
                )

    def _find_tables(self, coding: Path) -> dict[Sequence, Path]:
        """Occurrence tables. Raises CorpusError where there is none."""
        folder = find_path(coding, "AU_OCC") or coding
        found: dict[Sequence, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() == ".csv" and not path.name.startswith("."):
                self._take(found, path, _TABLE.fullmatch(path.name), "F001_T1.csv")
        if not found:
            raise self.misses(f"{folder.relative_to(self.root)}/F001_T1.csv")
        return found

    def _find_levels(self, coding: Path) -> dict[int, dict[Sequence, Path]]:
        """Unit => intensity tables; nothing where the corpus came without."""
        folder = find_path(coding, "AU_INT") or find_path(self.root, "AU-Intensity-Codes3.0")
        if folder is None:
            return {}
        found: dict[int, dict[Sequence, Path]] = {}
        for unit in INTENSITY_CODED:
            tables: dict[Sequence, Path] = {}
            if (of_unit := find_path(folder, f"AU{unit:02d}")) is None:
                self.report(folder, f"there is no folder AU{unit:02d}; AU{unit} has no intensities")
                continue
            for path in sorted(of_unit.iterdir()):
                if path.suffix.lower() == ".csv" and not path.name.startswith("."):
                    match = _LEVELS.fullmatch(path.name)
                    # A table in another unit's folder would label the wrong unit.
                    match = match if match and int(match[3]) == unit else None
                    self._take(tables, path, match, f"F001_T1_AU{unit:02d}.csv")
            found[unit] = tables
        return found

    def _take(
        self, found: dict[Sequence, Path], path: Path, match: re.Match[str] | None, example: str
    ) -> None:
        """Note the table of a sequence, or why it is not used."""
        sequence = Sequence(match[1].upper(), int(match[2])) if match else None
        if sequence is None:
            self.report(path, f"not named like {example}; table not used")
        elif (wrong := self._unknown(sequence, path) or self._uncoded(sequence, path)) is not None:
            self.report(path, f"{wrong}; table not used")
        elif sequence in found:
            self.report(path, f"{found[sequence].name} is a table of {sequence} too; not used")
        else:
            found[sequence] = path

    def _unknown(self, sequence: Sequence, path: Path) -> str | None:
        """Why a sequence is not of this corpus, or None. Raises CorpusError for the other's."""
        people, subject = self.people, sequence.subject
        if people.has(subject) and 1 <= sequence.task <= people.tasks:
            return None
        wrong = f"{self.name} has tasks T1 to T{people.tasks}"
        if not people.has(subject):
            wrong = (
                f"{subject} is not in {self.name} (F001 to F{people.women:03d}, M001 to"
                f" M{people.men:03d})"
            )
        if self.other.has(subject) and 1 <= sequence.task <= self.other.tasks:
            raise self._is_other(path, wrong)
        return wrong

    def _uncoded(self, sequence: Sequence, path: Path) -> str | None:
        """Why a sequence should have no table, or None. Raises CorpusError for the other's."""
        if sequence.task in self.people.coded_tasks:
            return None
        tasks = ", ".join(f"T{task}" for task in self.people.coded_tasks)
        wrong = f"{self.name} has tables of {tasks} only"
        if sequence.task in self.other.coded_tasks and self.other.has(sequence.subject):
            raise self._is_other(path, wrong)
        return wrong

    def _is_other(self, path: Path, why: str) -> CorpusError:
        other = self.other.corpus
        return CorpusError(
            f"{path}: {why}; this is of {other}, whose F001 is another person: read it as {other},"
            " and keep the two in folders of their own"
        )

    def _read_intensity(
        self, sequence: Sequence, levels: dict[int, dict[Sequence, Path]]
    ) -> dict[int, dict[int, float]]:
        """Frame => unit => intensity."""
        found: dict[int, dict[int, float]] = {}
        for unit, tables in levels.items():
            if sequence in tables:
                table = read_levels(tables[sequence], self.report, not_coded=NOT_CODED)
                for frame, level in table.items():
                    found.setdefault(frame, {})[unit] = level
        if lost := [f"AU{unit}" for unit, tables in levels.items() if sequence not in tables]:
            self.report(sequence, f"there is no intensity table of {', '.join(lost)}")
        return found

    def _picture_folder(self) -> Path:
        """Where the photographs are. Raises CorpusError for none, or for several such folders."""
        if (given := self.options.pictures) is not None:
            if not given.is_dir():
                raise CorpusError(f"pictures={given}: no such folder")
            if not self._has_sequence(given):
                raise CorpusError(f"pictures={given}: has neither F001/T1/2440.jpg nor 2F01_T1.avi")
            return given
        below = [path for path in sorted(self.root.iterdir()) if path.is_dir()]
        places = [self.root, *(p for p in below if p.name.lower() not in OTHER_DATA)]
        found = [place for place in places if self._has_sequence(place)]
        if not found:
            raise self.misses("F001/T1/2440.jpg")
        if len(found) > 1:
            names = ", ".join(map(str, found))
            raise CorpusError(f"{self.root}: photographs in {names}; choose with pictures=FOLDER")
        return found[0]

    def _has_sequence(self, place: Path) -> bool:
        nobody = lambda place, what: None
        return next(list_sequences(place, self.sessions, nobody), None) is not None

    def _find_pictures(self, folder: Path) -> dict[Sequence, Place]:
        """Sequence => its pictures; a folder goes before a film or an archive."""
        found: dict[Sequence, Place] = {}
        for sequence, place in list_sequences(folder, self.sessions, self.report):
            if sequence is None:
                self.report(place.path, "not named by a person and a task or session; not used")
            elif (wrong := self._unknown(sequence, place.path)) is not None:
                self.report(place.path, f"{wrong}; pictures not used")
            elif sequence not in found:
                found[sequence] = place
            else:
                self.report(place.path, f"{found[sequence].path} shows {sequence} too; not used")
        return found
