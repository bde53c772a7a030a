"""What every reader of a corpus has: options, the tree that it expects, and a list of problems.

reader = open_corpus("disfa", "/data/DISFA", ["camera=right"])
for record in reader.read(): ...
print(reader.problems)          # everything that could not be used, with its place
"""

from __future__ import annotations

import abc
import importlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from norface.config import Config, load_config
from norface.data.listing import unreadable
from norface.data.records import FaceRecord
from norface.errors import ConfigError, CorpusError

READERS: dict[str, str] = {
    "celeba": "norface.data.corpora.celeba:CelebAReader",
    "webface": "norface.data.corpora.webface:WebFaceReader",
    "emo135": "norface.data.corpora.emo135:Emo135Reader",
    "fec": "norface.data.corpora.fec:FecReader",
    "bp4d": "norface.data.corpora.bp4d:Bp4dReader",
    "bp4dplus": "norface.data.corpora.bp4dplus:Bp4dPlusReader",
    "disfa": "norface.data.corpora.disfa:DisfaReader",
    "disfaplus": "norface.data.corpora.disfaplus:DisfaPlusReader",
    "affectnet": "norface.data.corpora.affectnet:AffectNetReader",
    "rafdb": "norface.data.corpora.rafdb:RafDbReader",
    "folder": "norface.data.corpora.folder:FolderReader",
}
"Corpus name => module:class; imported when it is asked for."


class Problem(NamedTuple):
    """Something in a corpus that could not be used. Listed, never dropped in silence."""

    place: str
    "File, and line or frame where that helps."
    what: str


class CorpusReader(abc.ABC):
    """Reads one official layout. A subclass is one file in this folder and one line in READERS."""

    name: ClassVar[str]
    "As in keys and on the command line."
    title: ClassVar[str]
    "What it is, in a line."
    tree: ClassVar[str]
    "A drawing of the folder that is expected; shown when something of it is missing."
    published: Mapping[str, int] = {}
    """What => how many there are in the whole corpus, by its papers: "samples", "subjects", or
    "samples/train" for the samples of an official part."""
    Options: ClassVar[type[Config]] = Config
    "Settings of the reader, given as key=value on the command line."

    def __init__(self, root: str | Path, options: Config | None = None):
        self.root = Path(root)
        self.options: Any = self.Options() if options is None else options
        self.problems: list[Problem] = []
        self.left_out: Counter[str] = Counter()
        "Rule of the corpus => samples that are sound but no samples of its task."

    @abc.abstractmethod
    def records(self) -> Iterator[FaceRecord]:
        """Every sample with its labels, in a fixed order that no file system decides.

        What the source writes for "not coded" is absent from the labels. What is damaged goes to
        `self.problems`. Raises CorpusError for a folder that is not this corpus.
        """

    def read(self) -> Iterator[FaceRecord]:
        """`records`, without a second sample of one key: it becomes a problem.

        Raises CorpusError, with the tree that is expected, where nothing is there.
        """
        self.problems = []
        self.left_out = Counter()
        keys: set[str] = set()
        for record in self._readable():
            if record.key in keys:
                self.report(record.image, f"the key {record.key} comes more than once")
                continue
            keys.add(record.key)
            yield record
        if not keys:
            first = f"; the first problem: {': '.join(self.problems[0])}" if self.problems else ""
            raise CorpusError(
                f"{self.root}: holds no sample of {self.name}{first}; expected\n{self.tree}"
            )

    def _readable(self) -> Iterator[FaceRecord]:
        """`records`; a folder or a file that may not be read is one line."""
        try:
            yield from self.records()
        except OSError as error:
            raise unreadable(error, self.root) from None

    def report(self, place: object, what: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(str(place), what))

    def need(self, *choices: str) -> Path:
        """The first path below the root that is there, whatever the case of its letters.

        Raises CorpusError that names the first choice and draws the expected tree.
        """
        for choice in choices:
            if (found := find_path(self.root, choice)) is not None:
                return found
        raise self.misses(choices[0])

    def misses(self, what: str) -> CorpusError:
        """The error of a folder that is not this corpus."""
        if not self.root.exists():
            return CorpusError(f"{self.root}: no such folder; give the root of {self.name}")
        if not self.root.is_dir():
            return CorpusError(
                f"{self.root}: is a file, not a folder; give the root of {self.name}"
            )
        return CorpusError(
            f"{self.root}: not a folder of {self.name}: {what} is missing; expected\n{self.tree}"
        )


def find_path(root: Path, relative: str) -> Path | None:
    """root/relative, matching each name exactly or else in any case of letters; None = not there.

    Of several names that differ in case only, the first in alphabetical order is taken.
    """
    place = root
    for name in Path(relative).parts:
        exact = place / name
        if not exact.exists():
            if not place.is_dir():
                return None
            same = [one for one in place.iterdir() if one.name.lower() == name.lower()]
            if not same:
                return None
            exact = min(same)
        place = exact
    return place


def open_corpus(name: str, root: str | Path, options: Sequence[str] = ()) -> CorpusReader:
    """The reader of a corpus, with options given as key=value. Raises ConfigError."""
    if name not in READERS:
        raise ConfigError(f"corpus '{name}' is unknown; there are: {', '.join(READERS)}")
    module, _, cls = READERS[name].partition(":")
    reader: type[CorpusReader] = getattr(importlib.import_module(module), cls)
    return reader(root, load_config(reader.Options, overrides=list(options)))
