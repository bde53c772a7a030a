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
        """Raises CorpusError for no folder, no photograph, or a wrong line in the labels."""
        root, options = self.root, self.options
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "no such folder"
            raise CorpusError(f"{root}: {what}; give a folder of photographs")
        paths = sorted(
            (path for path in walk_files(root) if is_photograph(path)),
            key=lambda path: path.relative_to(root).parts,
        )
        if not paths:
            raise CorpusError(f"{root}: holds no photograph ({', '.join(SUFFIXES)})")
        rows, damaged = read_labels(options.labels) if options.labels is not None else ({}, {})
        for place_in_table, (name, what) in damaged.items():
            self.report(place_in_table, f"{what}; {name or 'the row'} is not used")
        unknown = {name for name, _ in damaged.values()}
        places = {path.relative_to(root).as_posix(): path for path in paths}
        if lost := [name for name in rows if name not in places]:
            raise CorpusError(
                f"{options.labels}: {len(lost)} paths are not below {root}; the first: {lost[0]}"
            )
        taken: Counter[tuple[str, str, str]] = Counter()
        for name, path in places.items():
            if name in unknown:
                # Whose face it is may stand in the damaged row.
                continue
            place, row = path.relative_to(root), rows.get(name, {})
            corpus = row.get("corpus", options.name)
            subject = row.get("subject") or _subject(place, options.subjects)
            clip = row.get("clip") or _clip(place)
            frame = row.get("frame", taken[corpus, subject, clip])
            # a/1.jpg and a/1.png, or names that differ in signs a key cannot hold: count them.
            taken[corpus, subject, clip] += 1
            found = {key: row[key] for key in _LABELS if key in row}
            yield FaceRecord(corpus, subject, clip, frame, path, **found)


_LABELS = ("split", "emotion", "presence", "intensity")


Rows = dict[str, dict[str, Any]]
"Path => corpus, subject, clip, frame, split, emotion, presence and intensity, if given."


def read_labels(table: str | Path) -> tuple[Rows, dict[str, tuple[str, str]]]:
    """The rows of a table, and FILE:LINE => (path, what is wrong) of those with too few or too many
    cells, which have no labels.

    Raises CorpusError with the line for an unknown column, a double path, or a wrong value.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = _check_columns(table, reader.fieldnames or [])
            rows: Rows = {}
            damaged: dict[str, tuple[str, str]] = {}
            for line in reader:
                where = f"{table}:{reader.line_num}"
                path = Path(line["path"]).as_posix() if line["path"] else ""
                if what := wrong_cells(line):
                    damaged[where] = (path, what)
                    continue
                if path in rows:
                    raise CorpusError(f"{where}: {path} comes twice")
                rows[path] = _read_row(line, columns, where)
            return rows, damaged
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
    line: dict[str, str], columns: dict[str, tuple[str, int]], where: str
) -> dict[str, Any]:
    row: dict[str, Any] = {name: line[name] for name in WORDS if line.get(name)}
    row |= {"presence": {}, "intensity": {}}
    try:
        if "frame" in row:
            row["frame"] = int(row["frame"])
        for name, (kind, unit) in columns.items():
            if line.get(name):
                row[kind][unit] = int(line[name]) if kind == "presence" else float(line[name])
        # The record's own checks, here where the line is still known.
        name, person = row.get("corpus", CORPUS), row.get("subject", "x")
        probe = FaceRecord(name, person, row.get("clip", "x"), 0)
        dataclasses.replace(
            probe, frame=row.get("frame", 0), **{k: row[k] for k in _LABELS if k in row}
        )
    except ValueError as error:
        raise CorpusError(f"{where}: {error}") from None
    except CorpusError as error:
        raise CorpusError(f"{where}: {error}") from None
    return row


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
