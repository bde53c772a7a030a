"""Emo135: 135 fine classes of emotion, in whatever layout a lab has received it.

The data set (Chen et al. 2022, IEEE Transactions on Affective Computing 13(4), 1906-1916) is known
to us by its description only: no public source shows its files, so a small yaml says how yours lie
(configs/corpora/emo135.yaml is an example to copy). Either every picture lies in the folder of its
class, or a csv table names pictures and classes. Classes without a counterpart among our eight
emotions are null in the yaml: such faces are kept without a label. How many pictures there are is
told by no source that we could read, so nothing is compared with a published count.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from pydantic import field_validator, model_validator

from norface.config import Config, Misfit, load_config
from norface.data.corpora.base import CorpusReader
from norface.data.corpora.folder import SUFFIXES, wrong_cells
from norface.data.corpora.naming import key_part, path_part
from norface.data.labels import EMOTIONS
from norface.data.listing import walk_files
from norface.data.records import FaceRecord
from norface.errors import CorpusError

DESCRIPTION = "emo135.yaml"


class TableDescription(Config):
    """A csv table with a head, one row a picture."""

    file: Path
    "The table, below the description's `root`."
    delimiter: str = ","
    "Sign between two columns."
    path: str = "path"
    "Column of the picture, below the description's `root`."
    label: str = "label"
    "Column of the class."
    subject: str | None = None
    "Column of the person; null = every picture is a person of its own."
    split: str | None = None
    "Column of the official part; null = none."


class Emo135Description(Config):
    """How a copy of Emo135 lies on the disk: by folders (`glob`) or by a `table`."""

    root: Path = Path(".")
    "Folder that all other paths start from, itself below ROOT."
    glob: str | None = None
    "Pictures, such as */*.jpg: the folder that a picture lies in is its class."
    table: TableDescription | None = None
    "Table of pictures and classes."
    classes: dict[str, str | None] = {}
    "Class of the corpus => one of our emotions, or null for a class that is none of them."
    unlisted: Literal["problem", "unlabelled"] = "problem"
    """What becomes of a picture whose class is not in `classes`: left out and listed as a problem,
    or kept without a label."""

    @field_validator("classes", mode="before")
    @classmethod
    def _numbers_are_names(cls, classes: Any) -> Any:
        """Classes that are numbers come from yaml as such; in a table they are text."""
        if not isinstance(classes, dict):
            return classes
        return {str(k) if type(k) is int else k: value for k, value in classes.items()}

    @field_validator("classes")
    @classmethod
    def _known_emotions(cls, classes: dict[str, str | None]) -> dict[str, str | None]:
        for name, emotion in classes.items():
            if emotion is not None and emotion not in EMOTIONS:
                valid = ", ".join(EMOTIONS)
                raise ValueError(f"class '{name}': '{emotion}' is none of {valid}; or write null")
        return classes

    @model_validator(mode="after")
    def _one_layout(self) -> Emo135Description:
        if (self.glob is None) == (self.table is None):
            raise Misfit("set one of '.glob' (pictures in folders of classes) and '.table'")
        return self


class Emo135Options(Config):
    """Where the description is."""

    description: Path | None = None
    "The yaml; null = ROOT/emo135.yaml."


class Picture(NamedTuple):
    """A picture as the layout names it."""

    place: str
    "For problems: the file, or the table's line."
    path: PurePath
    "Below the description's root."
    label: str
    subject: str = ""
    split: str = ""


class Emo135Reader(CorpusReader):
    """Pictures in the order of their paths, or of the table's lines."""

    name = "emo135"
    title = "Emo135: faces of 135 fine classes of emotion (pre-training)"
    tree = """\
ROOT/
  emo135.yaml             how the rest lies; or give description=FILE
  joyful/0001.jpg         glob: "*/*.jpg"
or
  labels.csv              table: {file: labels.csv, path: image, label: emotion}
(an example to copy: configs/corpora/emo135.yaml)"""
    Options = Emo135Options

    def records(self) -> Iterator[FaceRecord]:
        """Raises ConfigError for a wrong description, CorpusError where its files are missing."""
        file = self.options.description
        if not self.root.is_dir() or file is None:
            file = self.need(DESCRIPTION)
        description = load_config(Emo135Description, file)
        root = self.root / description.root
        if not root.is_dir():
            raise CorpusError(f"{file}: root: there is no folder {root}")
        pictures = (
            self.find_pictures(root, description.glob)
            if description.table is None
            else self.read_table(root, description.table)
        )
        unlisted: dict[str, list[PurePath]] = defaultdict(list)
        for picture in pictures:
            if picture.label not in description.classes and description.unlisted == "problem":
                unlisted[picture.label].append(picture.path)
                continue
            own = path_part(picture.path)
            clip = key_part(picture.label)
            yield FaceRecord(
                self.name,
                key_part(picture.subject) if picture.subject else own,
                f"{clip}+{own}" if picture.subject else clip,
                0,
                root / picture.path,
                emotion=description.classes.get(picture.label),
                split=picture.split,
            )
        for label, paths in sorted(unlisted.items()):
            self.report(
                file,
                f"the class '{label}' of {len(paths)} pictures, first {paths[0]}, is not in"
                " `classes`; add it with an emotion or null",
            )

    def find_pictures(self, root: Path, pattern: str | None) -> Iterator[Picture]:
        """The files that a pattern gives, in the order of their paths."""
        try:
            paths = sorted(path.relative_to(root) for path in root.glob(pattern or ""))
        except (ValueError, NotImplementedError, IndexError) as error:
            raise CorpusError(
                f"glob '{pattern}': {error}; give a pattern such as */*.jpg"
            ) from None
        self.count_others(root, {root / path for path in paths})
        for path in paths:
            if not (root / path).is_file():
                continue
            if path.suffix.lower() not in SUFFIXES:
                self.report(root / path, "is no photograph")
            elif not path.parent.name:
                self.report(root / path, "lies in no folder of a class")
            else:
                yield Picture(str(root / path), path, path.parent.name)

    def count_others(self, root: Path, named: set[Path]) -> None:
        """Count among what is left out the photographs that the description does not lead to.

        Raises CorpusError for a folder that cannot be read; a pattern passes over it.
        """
        others = sorted(
            path
            for path in walk_files(root)
            if path not in named and path.suffix.lower() in SUFFIXES and path.name[0] != "."
        )
        if others:
            first = others[0].relative_to(root)
            rule = f"photographs that {DESCRIPTION} does not lead to, first {first}"
            self.left_out[rule] += len(others)

    def read_table(self, root: Path, table: TableDescription) -> Iterator[Picture]:
        """The rows of the table whose picture is there."""
        path = root / table.file
        wanted = [table.path, table.label, *filter(None, (table.subject, table.split))]
        named: set[Path] = set()
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file, delimiter=table.delimiter)
                there = rows.fieldnames or []
                if missing := [name for name in wanted if name not in there]:
                    raise CorpusError(
                        f"{path}: has no column '{missing[0]}'; found: {', '.join(there) or 'none'}"
                    )
                for row in rows:
                    place = f"{path}:{rows.line_num}"
                    cells = {name: (row[name] or "").strip() for name in wanted}
                    picture = PurePath(cells[table.path])
                    named.add(root / picture)
                    if what := wrong_cells(row):
                        self.report(place, what)
                    elif empty := [name for name, cell in cells.items() if not cell]:
                        self.report(place, f"nothing in the column '{empty[0]}'")
                    elif picture.is_absolute() or ".." in picture.parts:
                        self.report(place, f"the picture {picture} is not below {root}")
                    elif not (root / picture).is_file():
                        self.report(place, f"the picture {picture} is missing")
                    else:
                        yield Picture(
                            place,
                            picture,
                            cells[table.label],
                            cells.get(table.subject or "", ""),
                            cells.get(table.split or "", ""),
                        )
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
        except (UnicodeDecodeError, csv.Error, TypeError) as error:
            raise CorpusError(f"{path}: not a csv table in UTF-8 ({error})") from None
        self.count_others(root, named)
