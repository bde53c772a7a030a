"""Rehearsals: synthetic faces in the official layout of a corpus, and so under its name.

`norface synth --layout` marks the folder that it writes by a file at its root; `norface prepare`
hands the mark on to the shards, and what is made of these hands it on further. Their index holds
it too, so that it travels where the tars and the index go alone.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from norface.config import Config
from norface.errors import CorpusError
from norface.files import write_aside

MARKER = "rehearsal.json"
"Beside the files of a layout, or beside shards."
SAID = "a rehearsal: synthetic faces by `norface synth --layout`, not the corpus of that name"


class Rehearsal(Config):
    """The contents of the marker."""

    layout: str
    "As in `norface synth --layout`."
    renderer: int
    "Version of the renderer that drew the faces."


def read_marker(folder: Path) -> Rehearsal | None:
    """What the marker of a folder says; None where there is none. Raises CorpusError."""
    path = folder / MARKER
    if not path.is_file():
        return None
    try:
        return Rehearsal.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise CorpusError(
            f"{path}: damaged; write the rehearsal again with `norface synth --layout`"
        ) from None


def write_marker(folder: Path, rehearsal: Rehearsal | None) -> None:
    """Mark a folder that is there as holding a rehearsal; nothing where it holds none."""
    if rehearsal is not None:
        with write_aside(folder / MARKER, shared=True) as aside:
            aside.write_text(rehearsal.model_dump_json() + "\n", encoding="utf-8")
