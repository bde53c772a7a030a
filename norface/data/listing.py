"""Walks over folders that say what they may not read, and where no output belongs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from norface.errors import CorpusError


def walk_files(root: Path, *, skip: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Every file below a folder, in no order; folders behind links are not entered, `skip` is
    called with each.

    Raises CorpusError naming a folder that cannot be read (Path.rglob passes over it in silence).
    One that is taken away meanwhile, as a training does with old checkpoints, is not there.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) or Path(error.filename) == root:
            raise unreadable(error, error.filename) from None

    for folder, folders, names in os.walk(root, onerror=refuse):
        for name in names:
            yield Path(folder, name)
        for link in (Path(folder, name) for name in folders):
            if skip is not None and link.is_symlink():
                skip(link)


def find_files(folder: Path, name: str) -> list[Path]:
    """Every file of this name at or below a folder, sorted; copies in a run's artifacts/ are not
    looked at. Raises CorpusError naming a folder that cannot be read."""
    found = (path for path in walk_files(folder) if path.name == name)
    return sorted(path for path in found if "artifacts" not in path.relative_to(folder).parts)


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
