"""Synthetic faces in the official layout of a corpus, to rehearse with before its licence arrives.

expected = write_layout("bp4d", "rehearsal/BP4D", LayoutSettings(subjects=6, frames=20))
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from norface.config import Config
from norface.data.records import FaceRecord
from norface.data.rehearsal import MARKER, Rehearsal, write_marker
from norface.errors import ConfigError, CorpusError, NorfaceError
from norface.synthetic.sampling import Frame, draw_frame
from norface.synthetic.version import RENDERER_VERSION

LAYOUTS: dict[str, str] = {
    "celeba": "norface.synthetic.layouts.celeba:write",
    "webface": "norface.synthetic.layouts.webface:write",
    "webface-folders": "norface.synthetic.layouts.webface:write_folders",
    "emo135": "norface.synthetic.layouts.emo135:write",
    "fec": "norface.synthetic.layouts.fec:write",
    "bp4d": "norface.synthetic.layouts.bp4d:write_bp4d",
    "bp4dplus": "norface.synthetic.layouts.bp4dplus:write_bp4dplus",
    "disfa": "norface.synthetic.layouts.disfa:write_disfa",
    "disfaplus": "norface.synthetic.layouts.disfaplus:write_disfaplus",
    "affectnet": "norface.synthetic.layouts.affectnet:write_tables",
    "affectnet-npy": "norface.synthetic.layouts.affectnet:write_arrays",
    "affectnet-folders": "norface.synthetic.layouts.affectnet:write_folders",
    "rafdb": "norface.synthetic.layouts.rafdb:write_aligned",
    "rafdb-original": "norface.synthetic.layouts.rafdb:write_original",
}
"""Corpus name => module:function. The function (root: Path, settings: LayoutSettings) writes the
tree, warts included, and returns the records that a right reader must find in it, without images;
the order does not matter."""


class LayoutSettings(Config):
    """How much of a corpus is written."""

    subjects: int = Field(6, ge=1)
    "Persons; they get the corpus's own names for persons, in its order."
    frames: int = Field(20, ge=4)
    "Pictures of each person (of each task or clip, where the corpus has several)."
    side: int = Field(160, ge=64)
    "Side of a face in pixels; photographs are larger where the corpus's are."
    seed: int = Field(0, ge=0)
    pool: str = "folds"
    "Pool of persons, see norface.synthetic.sampling."

    def draw(self, subject: int, first: int = 0) -> Iterator[Frame]:
        """`frames` pictures of a person (counted from 0), from frame number `first` on."""
        for number in range(first, first + self.frames):
            yield draw_frame(self.pool, subject, number, self.seed)


def write_layout(name: str, root: str | Path, settings: LayoutSettings) -> list[FaceRecord]:
    """Write faces as corpus `name` into an empty folder; returns what a reader must find.

    Raises ConfigError for an unknown layout, CorpusError for a folder with something in it.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"layout '{name}' is unknown; there are: {', '.join(LAYOUTS)}")
    folder = Path(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CorpusError(f"{folder}: is not empty; choose another folder")
        # First of all: what is left of a killed one says what it is, too.
        write_marker(folder, Rehearsal(layout=name, renderer=RENDERER_VERSION))
        module, _, function = LAYOUTS[name].partition(":")
        try:
            expected: list[FaceRecord] = getattr(importlib.import_module(module), function)(
                folder, settings
            )
        except NorfaceError:
            if [path.name for path in folder.iterdir()] == [MARKER]:
                (folder / MARKER).unlink()
            raise
        return expected
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be written ({error.strerror})") from None
