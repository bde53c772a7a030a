"""Any tree of photographs, with labels from a table where there is one.

The subject of ROOT/anna/2.jpg is `anna`; a picture directly in ROOT is a subject of its own, named
by its file. `subjects=file` makes every picture a subject of its own. A labels table (csv) has a
column `path`, relative to ROOT, and any of: corpus, subject, clip, frame, split, emotion, au_N (0
or 1), intensity_N (0..5). An empty cell means: not labelled.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from norface.config import Config
from norface.data.corpora.base import CorpusReader
from norface.data.corpora.numbers import to_number, whole_number
from norface.data.labels import ACTION_UNITS
from norface.data.listing import walk_files
from norface.data.records import FaceRecord
from norface.errors import CorpusError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"File names that count as photographs, in any case of letters."
WORDS = ("corpus", "subject", "clip", "frame", "split", "emotion")
CORPUS = "folder"


class FolderOptions(Config):
    """What names a person, and where the labels are."""

    labels: Path | None = None
    "csv table of labels."
    subjects: Literal["folder", "file"] = "folder"
    "What names a person: the first folder below ROOT, or each file."
    name: str = CORPUS
    "Corpus name in the keys, where the table has no column `corpus`."


class FolderReader(CorpusReader):
    """The photographs below a folder, in the order of their paths."""

    name = CORPUS
    title = "any tree of photographs, with labels from a table where there is one"
    tree = """\
ROOT/
  anna/1.jpg        a photograph of the subject anna
  ben.png           a photograph of the subject ben"""
    Options = FolderOptions

    def records(self) -> Iterator[FaceRecord]:
        """Raises CorpusError for no folder, no photograph, or a table that is none of labels."""
        root, options = self.root, self.options
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "no such folder"
            raise CorpusError(f"{root}: {what}; give a folder of photographs")
        paths = self._find_photographs()
        if not paths:
            raise self.misses(f"a photograph ({', '.join(SUFFIXES)})")
        table = LabelTable() if options.labels is None else read_labels(options.labels)
        places = {path.relative_to(root).as_posix(): path for path in paths}
        if table.rows and not places.keys() & table.rows.keys():
            raise CorpusError(
                f"{options.labels}: none of {len(table.rows)} paths is below {root}; the first:"
                f" {next(iter(table.rows))}"
            )
        for place_in_table, what in table.problems:
            self.report(place_in_table, what)
        for name, row in table.rows.items():
            if name not in places:
                self.report(row["where"], f"{name} is not below {root}")
        taken: Counter[tuple[str, str, str]] = Counter()
        for name, path in places.items():
            if name in table.unusable:
                # Whose face it is may stand in the damaged row.
                continue
            place, row = path.relative_to(root), table.rows.get(name, {})
            corpus = row.get("corpus", options.name)
            subject = row.get("subject") or _subject(place, options.subjects)
            clip = row.get("clip") or _clip(place)
            frame = row.get("frame", taken[corpus, subject, clip])
            # a/1.jpg and a/1.png, or names that differ in signs a key cannot hold: count them.
            taken[corpus, subject, clip] += 1
            found = {key: row[key] for key in _LABELS if key in row}
            yield FaceRecord(corpus, subject, clip, frame, path, **found)

    def _find_photographs(self) -> list[Path]:
        """The photographs below the root by their paths. Links that are of no use are reported,
        other files counted."""
        links: list[Path] = []
        found: list[Path] = []
        order = lambda path: path.relative_to(self.root).parts
        for path in sorted(walk_files(self.root, skip=links.append), key=order):
            if is_photograph(path):
                found.append(path)
            elif path.name.startswith("."):
                continue
            elif path.suffix.lower() in SUFFIXES:
                self.report(path, "is no file, or a link to none")
            elif path != self.options.labels:
                self.left_out[f"files named *{path.suffix}, no photographs"] += 1
        for link in sorted(links, key=order):
            self.report(link, "a link to a folder is not entered; give that folder, too")
        return found


_LABELS = ("split", "emotion", "presence", "intensity")


@dataclasses.dataclass
class LabelTable:
    """What a table of labels says, and what could not be read of it."""

    rows: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Path => corpus, subject, clip, frame, split, emotion, presence and intensity, if given; and
    `where`, FILE:LINE."""
    unusable: set[str] = dataclasses.field(default_factory=set)
    "Paths of damaged rows."
    problems: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    "(FILE:LINE, what is wrong)."


def read_labels(table: str | Path) -> LabelTable:
    """Read a table of labels. Of a path that comes twice the first row counts.

    Rows with too few or too many cells, or with a value that is no label, become problems. Raises
    CorpusError for an unknown column, and for what is no such table.
    """
    found = LabelTable()
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = _check_columns(table, reader.fieldnames or [])
            for line in reader:
                where = f"{table}:{reader.line_num}"
                path = Path(line["path"]).as_posix() if line["path"] else ""
                row: dict[str, Any] = {}
                if not (what := wrong_cells(line)):
                    row, what = _read_row(line, columns)
                if what:
                    found.problems.append((where, f"{what}; {path or 'the row'} is not used"))
                    found.unusable.add(path)
                elif path in found.rows:
                    found.problems.append((where, f"{path} comes twice; this row is not used"))
                else:
                    found.rows[path] = {**row, "where": where}
            return found
    except OSError as error:
        raise CorpusError(f"{table}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{table}: not a csv table in UTF-8 ({error})") from None


def wrong_cells(line: Mapping[str | Any, Any]) -> str:
    """Of a row by csv.DictReader: in words, that it has too few or too many cells; else ""."""
    given = [name for name, cell in line.items() if name is not None and cell is not None]
    cells = len(given) + len(line.get(None, ()))
    columns = len(line) - (None in line)
    return "" if cells == columns else f"{cells} cells, the table has {columns} columns"


def _check_columns(table: str | Path, names: list[str] | Any) -> dict[str, tuple[str, int]]:
    """Column => (presence or intensity, action unit), for the columns that hold units."""
    units = {f"au_{unit}": ("presence", unit) for unit in ACTION_UNITS}
    units |= {f"intensity_{unit}": ("intensity", unit) for unit in ACTION_UNITS}
    if "path" not in names:
        raise CorpusError(f"{table}: no column 'path'; found: {', '.join(names) or 'nothing'}")
    for name in names:
        if name not in units and name not in ("path", *WORDS):
            raise CorpusError(
                f"{table}: unknown column '{name}'; valid: path, {', '.join(WORDS)}, au_N,"
                f" intensity_N with N in {', '.join(map(str, ACTION_UNITS))}"
            )
    return {name: units[name] for name in names if name in units}


def _read_row(
    line: dict[str, str], columns: dict[str, tuple[str, int]]
) -> tuple[dict[str, Any], str]:
    """(what a row says, what is wrong with it or "")."""
    row: dict[str, Any] = {name: line[name] for name in WORDS if line.get(name)}
    row |= {"presence": {}, "intensity": {}}
    if "frame" in row:
        row["frame"] = whole_number(line["frame"])
        if row["frame"] is None:
            return row, f"frame is '{line['frame']}'; expected a whole number"
    for name, (kind, unit) in columns.items():
        text = line.get(name)
        if text and kind == "presence":
            row[kind][unit] = whole_number(text)
            if row[kind][unit] not in (0, 1):
                return row, f"{name} is '{text}'; expected 0, 1 or an empty cell"
        elif text:
            row[kind][unit] = to_number(text)
            if not 0 <= row[kind][unit] <= 5:
                return row, f"{name} is '{text}'; expected 0 to 5 or an empty cell"
    names = row.get("corpus", CORPUS), row.get("subject", "x"), row.get("clip", "x")
    try:
        # The record's own checks of names and of the emotion, here where the line is still known.
        FaceRecord(*names, 0, emotion=row.get("emotion"))
    except CorpusError as error:
        return row, str(error).removeprefix(f"{'_'.join(names)}_0: ")
    return row, ""


def is_photograph(path: Path) -> bool:
    """Whether a path is a visible file with the name of a photograph."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _subject(place: Path, subjects: str) -> str:
    """Name of the person of a picture at `place` below the root."""
    if subjects == "file" or len(place.parts) == 1:
        return to_word("-".join(place.with_suffix("").parts))
    return to_word(place.parts[0])


def _clip(place: Path) -> str:
    """What is left of the path: everything below the first folder."""
    parts = place.with_suffix("").parts
    return to_word("-".join(parts[1:] or parts))


def to_word(name: str) -> str:
    """A name with the signs that a key may hold."""
    return re.sub(r"[^A-Za-z0-9+-]+", "-", name).strip("-") or "x"
