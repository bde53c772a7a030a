"""Walks over folders that say what they may not read, and where no output belongs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from norface.errors import CorpusError


def walk_files(root: Path) -> Iterator[Path]:
    """Every file below a folder, in no order; folders behind links are not entered.

    Raises CorpusError naming a folder that cannot be read (Path.rglob passes over it in silence).
    """
    for folder, _, names in os.walk(root, onerror=_refuse):
        for name in names:
            yield Path(folder, name)


def _refuse(error: OSError) -> None:
    raise unreadable(error, error.filename) from None


def unreadable(error: OSError, place: object) -> CorpusError:
    """The one-line error for a place without permission, or on a broken disk."""
    return CorpusError(
        f"{error.filename or place}: cannot be read ({error.strerror or error}); see to its"
        " permissions and its disk, or take it away"
    )


def refuse_inside(out: Path, root: Path) -> None:
    """Raise CorpusError where `out` is `root` or lies in it: what is written would be read next
    time, as photographs of the corpus."""
    if out.resolve().is_relative_to(root.resolve()):
        raise CorpusError(f"{out}: lies in {root}, which is read; choose a folder outside of it")
