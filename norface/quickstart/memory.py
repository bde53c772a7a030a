"""How much memory this process and its children need at most."""

from __future__ import annotations

import threading

import psutil


class MemoryWatch:
    """Looks twice a second at the resident memory of this process and all below it.

    with MemoryWatch() as memory: ...
    memory.peak_gib

    What several processes share counts for each: the sum is never too small.
    """

    def __init__(self, every_s: float = 0.5):
        self.peak_gib, self._every_s = 0.0, every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def look(self) -> float:
        """GiB now."""
        total, me = 0, psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total / 2**30

    def _watch(self) -> None:
        while True:
            self.peak_gib = max(self.peak_gib, self.look())
            if self._end.wait(self._every_s):
                return

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
