"""The large file that was read last stays open: pictures in videos and archives come in rows."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from norface.errors import CorpusError

Opened = TypeVar("Opened")


class LastOpened(threading.local, Generic[Opened]):
    """Opens a file when another one is asked for; one a thread and process stays open.

    open: path => whatever reads it; raises CorpusError for what it cannot read.
    """

    def __init__(self, open: Callable[[Path], Opened], close: Callable[[Opened], None]):
        self._open, self._close = open, close
        self._path: Path | None = None
        self._state = (0, 0)
        self._process = 0
        self._opened: Opened | None = None
        self._of_parents: list[Opened | None] = []

    def at(self, path: Path) -> Opened:
        """The opened file at `path`. Raises CorpusError for a missing one."""
        state = state_of(path)
        if self._opened is not None and self._process != os.getpid():
            # A forked child shares its parent's place in the file, and has none of the threads of
            # its decoder, for which closing it would wait for ever: it is kept, untouched.
            self._of_parents.append(self._opened)
            self._opened = None
        if self._opened is None or (self._path, self._state) != (path, state):
            if self._opened is not None:
                self._close(self._opened)
            self._opened = None
            self._opened = self._open(path)
            self._path, self._state, self._process = path, state, os.getpid()
        return self._opened


def state_of(path: Path) -> tuple[int, int]:
    """Size and time of change. Raises CorpusError for a missing file."""
    try:
        found = path.stat()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    return found.st_size, found.st_mtime_ns
