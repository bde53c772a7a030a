"""Google's facial expression comparison set (FEC): triplets of faces, judged by people.

The set is two csv files of URLs; the photographs are fetched by whoever uses it, and many are gone.
A row holds three faces, each a URL and the four sides left, right, top, bottom of a box in units of
the photograph's width and height; then ONE_CLASS_TRIPLET, TWO_CLASS_TRIPLET or THREE_CLASS_TRIPLET;
then pairs of an annotator and his vote, more of them in some rows than in others. A vote is 1, 2 or
3: the face that is least like the other two. (foamliu/Facial-Expression-Embedding: pre_process.py
and data_gen.py; AmirSh15/FECNet:data/image_downloader_new.py.)

The photograph of a URL is looked for in the folder `images` as the sha1 of the URL in hex digits
with .jpg behind, and else by the last part of the URL. Every face (photograph and box) is one
record; persons are not known, so each photograph counts as one.

Published are about 156,000 faces (Vemulapalli and Agarwala, arXiv 1811.11283: "156K") in 87,517
photographs (exposing.ai's count of the URLs); less is there as photographs are taken down.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from norface.config import Config
from norface.data.corpora.base import CorpusReader, find_path
from norface.data.records import FaceRecord
from norface.data.tars import unwritable
from norface.errors import CorpusError
from norface.images import photo_size

TABLES = {
    "train": "faceexp-comparison-data-train-public.csv",
    "test": "faceexp-comparison-data-test-public.csv",
}
"Official part => its file."
TYPES = ("ONE_CLASS_TRIPLET", "TWO_CLASS_TRIPLET", "THREE_CLASS_TRIPLET")
"How many classes of expression the three faces were drawn from."
UNITS = 10_000
"A box stands in a key as left-right-top-bottom in units of 1/10000."
TRIPLETS = pa.schema(
    [(f"key{n}", pa.string()) for n in (1, 2, 3)]
    + [("type", pa.string()), ("votes", pa.list_(pa.int8())), ("split", pa.string())]
)
"Columns of the table of triplets; votes are 1, 2 or 3, the face that is least like the others."


class FecOptions(Config):
    """Where the photographs are, and where the triplets go."""

    images: Path = Path("images")
    "Folder of the photographs, below ROOT where it is relative."
    triplets: Path | None = None
    """Parquet file to write with the triplets of which all three faces were found: key1, key2,
    key3, type, votes, split. A face that has no row in the shards was left out while they were
    prepared."""


class Face(NamedTuple):
    """A face of a row: URL, and the sides of its box in units of width and height, 0..1."""

    url: str
    left: float
    right: float
    top: float
    bottom: float

    @property
    def digest(self) -> str:
        """sha1 of the URL, 40 hex digits."""
        return hashlib.sha1(self.url.encode(), usedforsecurity=False).hexdigest()


class Row(NamedTuple):
    """A triplet of faces."""

    faces: list[Face]
    kind: str
    "One of TYPES, or empty where the row ends behind the faces."
    votes: list[int]


class Photograph(NamedTuple):
    """A picture that was found, and its width and height in pixels."""

    path: Path
    width: int
    height: int


class FecReader(CorpusReader):
    """Faces in the order in which the rows first name them; `triplets` are there afterwards."""

    name = "fec"
    title = "FEC: faces in triplets, judged by the similarity of their expressions"
    tree = """\
ROOT/                 (or ROOT/FEC_dataset/ for the tables)
  faceexp-comparison-data-train-public.csv
  faceexp-comparison-data-test-public.csv
  images/SHA1.jpg     SHA1 = sha1 of the URL, 40 hex digits; or the name that ends the URL"""
    published = {"samples": 156_000, "subjects": 87_517}
    Options = FecOptions

    def __init__(self, root: str | Path, options: Config | None = None):
        super().__init__(root, options)
        self._triplets: list[tuple[str, str, str, str, list[int], str]] = []

    def records(self) -> Iterator[FaceRecord]:
        """Raises CorpusError where there is no table or no folder of photographs."""
        tables = {
            split: path
            for split, name in TABLES.items()
            for path in [find_path(self.root, name) or find_path(self.root, f"FEC_dataset/{name}")]
            if path is not None
        }
        if not tables:
            raise self.misses(TABLES["train"])
        folder = self.root / self.options.images
        if not folder.is_dir():
            raise self.misses(f"the folder of photographs {folder}")
        photographs = Photographs(folder)
        self._triplets = []
        splits: dict[str, str] = {}
        told: set[str] = set()
        for split, path in tables.items():
            for place, row in self.read_rows(path):
                keys: list[str] = []
                lost: list[str] = []
                for face in row.faces:
                    try:
                        record = make_record(face, photographs.find(face), split)
                    except CorpusError as error:
                        lost.append(str(error))
                        continue
                    keys.append(record.key)
                    first = splits.get(record.key)
                    if first is None:
                        splits[record.key] = split
                        yield record
                    elif first != split and record.key not in told:
                        told.add(record.key)
                        self.report(place, f"the face {record.key} is in {first}, and in {split}")
                if lost:
                    self.report(place, f"{len(lost)} of 3 faces cannot be used; {lost[0]}")
                else:
                    self._triplets.append((keys[0], keys[1], keys[2], row.kind, row.votes, split))
        if self.options.triplets is not None:
            write_table(self.triplets(), self.options.triplets)

    def triplets(self) -> pa.Table:
        """The triplets of the last whole `read` of which all faces are there: see TRIPLETS."""
        columns = zip(*self._triplets, strict=True) if self._triplets else [[]] * len(TRIPLETS)
        return pa.table(list(map(list, columns)), schema=TRIPLETS)

    def read_rows(self, path: Path) -> Iterator[tuple[str, Row]]:
        """(place, row) of a table; rows that are no triplet become problems."""
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                rows = csv.reader(file, skipinitialspace=True)
                for words in rows:
                    place = f"{path}:{rows.line_num}"
                    try:
                        row = parse_row(words)
                    except ValueError as error:
                        self.report(place, str(error))
                        continue
                    if row is not None:
                        yield place, row
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise CorpusError(f"{path}: not a csv table in UTF-8 ({error})") from None


class Photographs:
    """The photographs of a folder by their URL; each is opened once, for its size."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._names = set(os.listdir(folder))
        self._known: dict[str, Photograph | CorpusError] = {}
        self._url_of: dict[str, str] = {}

    def find(self, face: Face) -> Photograph:
        """The photograph of a face. Raises CorpusError for one that is missing or damaged."""
        if face.url not in self._known:
            try:
                self._known[face.url] = self._open(face)
            except CorpusError as error:
                self._known[face.url] = error
        found = self._known[face.url]
        if isinstance(found, CorpusError):
            raise found
        return found

    def _open(self, face: Face) -> Photograph:
        names = (f"{face.digest}.jpg", urlsplit(face.url).path.rpartition("/")[2])
        name = next((name for name in names if name in self._names), None)
        if name is None:
            raise CorpusError(
                f"the photograph of {face.url} is missing: neither {names[0]} nor {names[1]} is in"
                f" {self.folder}"
            )
        if (url := self._url_of.setdefault(name, face.url)) != face.url:
            raise CorpusError(
                f"{self.folder / name} could be {face.url} or {url}; name it by the sha1 of its URL"
            )
        return Photograph(self.folder / name, *photo_size(self.folder / name))


def make_record(face: Face, photograph: Photograph, split: str) -> FaceRecord:
    """The record of one face of a photograph."""
    across, down = photograph.width, photograph.height
    sides = (face.left, face.right, face.top, face.bottom)
    return FaceRecord(
        FecReader.name,
        face.digest[:16],
        "-".join(f"{round(side * UNITS):04d}" for side in sides),
        0,
        photograph.path,
        split=split,
        region=(face.left * across, face.top * down, face.right * across, face.bottom * down),
    )


def parse_row(words: Sequence[str]) -> Row | None:
    """A row of a table, None for an empty one. Raises ValueError for what is no triplet."""
    cells = [word.strip().strip('"').strip() for word in words]
    while cells and not cells[-1]:
        cells.pop()
    if not cells:
        return None
    if len(cells) < 15:
        raise ValueError(f"{len(cells)} columns; three faces need 15")
    faces = [parse_face(cells[start : start + 5], start + 1) for start in (0, 5, 10)]
    kind, pairs = "".join(cells[15:16]), cells[16:]
    if kind and kind not in TYPES:
        raise ValueError(f"column 16: found '{kind}'; expected one of {', '.join(TYPES)}")
    if len(pairs) % 2:
        raise ValueError(f"{len(cells)} columns: the last annotator has no vote")
    for column, vote in enumerate(pairs[1::2]):
        if vote not in ("1", "2", "3"):
            raise ValueError(f"column {18 + 2 * column}: found vote '{vote}'; valid: 1, 2, 3")
    return Row(faces, kind, [int(vote) for vote in pairs[1::2]])


def parse_face(cells: Sequence[str], column: int) -> Face:
    """A URL and its box, in columns from `column` on. Raises ValueError."""
    try:
        left, right, top, bottom = map(float, cells[1:])
    except ValueError:
        raise ValueError(
            f"column {column + 1}: found '{','.join(cells[1:])}'; expected a box"
        ) from None
    # A comparison with NaN is false, so NaN is refused too.
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(
            f"column {column + 1}: left {left}, right {right}, top {top}, bottom {bottom} is no box"
            " in units of the picture"
        )
    if not cells[0]:
        raise ValueError(f"column {column}: no URL")
    return Face(cells[0], left, right, top, bottom)


def write_table(table: pa.Table, path: Path) -> None:
    """Write parquet, whole or not at all. Raises CorpusError."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, temporary)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise unwritable(path, error) from None
