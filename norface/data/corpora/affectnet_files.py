"""The files of AffectNet's annotations: tables of the first release, arrays of the later one.

Columns: sb-ai-lab/EmotiEffLib#14 and py-feat's loader. Arrays: yaoing/DAN:affectnet.py; they hold
one value, a number or a string (EmotiEffLib#14).
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from norface.data.corpora.base import CorpusReader
from norface.data.corpora.folder import to_word
from norface.data.corpora.pictures import PictureFinder
from norface.errors import CorpusError

COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
    "expression", "valence", "arousal",
)  # fmt: skip
NEEDED = (*COLUMNS[:5], "expression")
BOX = COLUMNS[1:5]


class Listed(NamedTuple):
    """What a layout says of one photograph."""

    place: str
    "Where it says so: a file, with the line where it has lines."
    subject: str
    clip: str
    split: str
    code: str
    "Expression code as written."
    picture: str
    "Name of the photograph as written."
    path: Path | None
    "Where it lies; None = nowhere."
    box: Sequence[str] = ()
    "Left, top, width, height of the face as written."


def read_table(
    reader: CorpusReader, table: Path, split: str, finder: PictureFinder
) -> Iterator[Listed]:
    """The rows of training.csv or validation.csv.

    Rows of another length are reported. Raises CorpusError for a table that lacks a column.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            first = next(rows, [])
            names = first if COLUMNS[0] in first else list(COLUMNS)
            if names is not first and (len(first) != len(COLUMNS) or "/" not in first[0]):
                missing = [name for name in NEEDED if name not in first]
                raise CorpusError(
                    f"{table}: lacks the columns {', '.join(missing)}; found:"
                    f" {', '.join(first) or 'nothing'}"
                )
            if missing := [name for name in NEEDED if name not in names]:
                raise CorpusError(
                    f"{table}: lacks the columns {', '.join(missing)}; found: {', '.join(names)}"
                )
            column = {name: number for number, name in enumerate(names)}
            for row in rows if names is first else itertools.chain([first], rows):
                place = f"{table}:{rows.line_num}"
                if len(row) != len(names):
                    reader.report(place, f"has {len(row)} cells, the table has {len(names)}")
                    continue
                picture = row[column[COLUMNS[0]]]
                inside = PurePosixPath(picture.replace("\\", "/")).with_suffix("")
                yield Listed(
                    place=place,
                    subject=to_word(inside.name),
                    clip=to_word(inside.parent.as_posix()),
                    split=split,
                    code=row[column["expression"]],
                    picture=picture,
                    path=finder.find(picture),
                    box=[row[column[name]] for name in BOX],
                )
    except OSError as error:
        raise CorpusError(f"{table}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{table}: not a csv table in UTF-8 ({error})") from None


def read_code(path: Path) -> str:
    """The one value of an annotation, a string or a number, as text.

    Nothing is unpickled. Raises CorpusError for a pickle, another size or a damaged file.
    """
    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise CorpusError("holds pickled Python objects, not a code; refused") from None
        raise CorpusError(f"no numpy array ({error})") from None
    except (OSError, EOFError, MemoryError, SyntaxError) as error:
        raise CorpusError(f"no numpy array ({error})") from None
    if array.size != 1:
        raise CorpusError(f"holds {array.size} values; one code was expected")
    value = array.reshape(()).item()
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def by_number(name: str) -> tuple[int, str]:
    """Sorts 2 before 10, and words behind numbers."""
    return (int(name), name) if name.isdecimal() else (sys.maxsize, name)
