"""One thread that brings MLflow up to date with a sweep and its trials.

Only the driver writes to the store: trials on other nodes need no network, and a sqlite file has
one writer. What could not be sent is sent by `norface track sync` later, as for any run.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import TracebackType

from norface.mlflow_client import import_mlflow, reason
from norface.mlflow_feed import Feed
from norface.tracking import RUN_FILE, TrackingConfig, read_facts


class SweepFeeder:
    """A context: feeds every `every_s` seconds, and once more at the end, if what is being sent
    then is sent within `patience_s`."""

    def __init__(
        self, folder: Path, tracking: TrackingConfig, every_s: float = 5.0, patience_s: float = 60
    ):
        self.folder, self.every_s, self.on = folder, every_s, tracking.mlflow
        self.patience_s = patience_s
        self._feeds: dict[Path, Feed] = {}
        self._done: set[Path] = set()
        self._warned = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sweep-feed", daemon=True)

    def __enter__(self) -> SweepFeeder:
        if self.on:
            import_mlflow()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self.on:
            self._ending.set()
            self._thread.join(self.patience_s)
            # Not beside the thread, where the store lets it hang: two that find no run make two.
            if self._thread.is_alive() or not self._try():
                command = f"norface track sync {self.folder} {self.folder}/trials/*"
                print(f"MLflow is not up to date; later: {command}", file=sys.stderr)

    def _loop(self) -> None:
        wait_s = 0.0
        while not self._ending.wait(wait_s):
            wait_s = self.every_s if self._try() else min(300, 2 * max(wait_s, self.every_s))

    def _try(self) -> bool:
        """Feed all that may have changed, the sweep first; whether the store took it."""
        folders = [self.folder, *sorted(self.folder.glob("trials/[0-9]*"))]
        try:
            for folder in folders:
                if folder in self._done or not (folder / RUN_FILE).exists():
                    continue
                ended = folder != self.folder and read_facts(folder).get("status") != "running"
                if folder not in self._feeds:
                    self._feeds[folder] = Feed(folder)
                self._feeds[folder].update()
                if ended:
                    self._done.add(folder)
                    del self._feeds[folder]
        except Exception as error:
            # As in FeedThread: whatever the store says, the folders have it all.
            if not self._warned:
                print(f"MLflow is not fed for now: {reason(error)}", file=sys.stderr)
                self._warned = True
            return False
        return True
