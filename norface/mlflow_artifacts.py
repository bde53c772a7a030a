"""Which files of a run MLflow has, as they are now.

A store says of a file its name and size only, and a table or a page that is written anew may keep
its size. So the sha256 of what was sent is kept beside the run, in mlflow.json; a store in which
the file is missing, or another store, gets it again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from norface.files import file_sha256
from norface.tracking import replacing

MLFLOW_FILE = "mlflow.json"


class SentFiles:
    """Files that a run's store has, by name and sha256; writes mlflow.json.

    `about`: {"uri", "experiment_id", "run_id"}, where the run lies; `there`: names of the files
    that the store lists. Raises CheckpointError where the run folder cannot be written.
    """

    def __init__(self, folder: Path, about: Mapping[str, str], there: Collection[str]):
        self.path, self.about = folder / MLFLOW_FILE, dict(about)
        self.sums = {name: total for name, total in self._earlier().items() if name in there}
        # Path => (inode, time of change, size) when it was last read: nothing is read for nothing.
        self._looks: dict[Path, tuple[int, int, int]] = {}
        self._read: dict[Path, str] = {}
        self._write()

    def _earlier(self) -> dict[str, str]:
        """What an earlier feed noted for this run of this store."""
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        is_same = all(record.get(key) == value for key, value in self.about.items())
        return dict(record.get("files", {})) if is_same else {}

    def _write(self) -> None:
        with replacing(self.path) as aside:
            text = json.dumps({**self.about, "files": self.sums})
            aside.write_text(text + "\n", encoding="utf-8")

    def is_new(self, path: Path) -> bool:
        """Whether the store lacks this file, or has it as it was before."""
        found = path.stat()
        look = found.st_ino, found.st_mtime_ns, found.st_size
        if self._looks.get(path) != look:
            # The look first: what is written while it is read looks different the next time.
            self._looks[path], self._read[path] = look, file_sha256(path)
        return self.sums.get(path.name) != self._read[path]

    def note(self, path: Path) -> None:
        """It was sent as `is_new` read it."""
        self.sums[path.name] = self._read[path]
        self._write()
