"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from norface.data.tars import unwritable
from norface.errors import CorpusError


@contextlib.contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when all went well.

    Raises CorpusError where the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def write_folder_aside(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its place when all went well.

    What a killed process left aside is removed. Raises CorpusError where `path` is a file or a
    folder with something in it, or cannot be written.
    """
    if path.name in ("", ".."):
        path = path.resolve()
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if path.exists() and not path.is_dir():
            raise CorpusError(f"{path}: is a file; choose a new folder")
        if path.is_dir() and any(path.iterdir()):
            raise CorpusError(f"{path}: is not empty; choose another folder")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        # Renaming a folder onto an empty one replaces it.
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
