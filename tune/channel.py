"""What a trial's process and whoever watches it say to one another, over its stdin and stdout.

    trial  -> watcher   @trial {"report": 3, "fold": 0, "images": 480, "metrics": {...}}
    watcher -> trial    go | stop          after every report: the trial waits for it
    trial  -> watcher   @trial {"done": true} | {"failed": "one line"}

All other lines of stdout are the trial's log. When the watcher dies its end of stdin closes: the
trial then saves and ends, as if Slurm had asked it to. All ranks of a trial inherit that stdin, and
those that hear no answers notice its end too, whatever became of the process that started them.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from norface.training.preemption import RESUME_CODE

MARK = "@trial "
GO, STOP = "go", "stop"


FORCED_AFTER_S = 100.0
"""How long a process whose watcher is gone may take to save; it may be waiting for a rank that is
gone too. Less than the next start waits for it (LOCK_WAIT_S in trial.py)."""


def leave() -> None:
    """Save and end, as if asked by Slurm; by force where that takes too long. In a thread."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(FORCED_AFTER_S)
    os._exit(RESUME_CODE)


def leave_with_watcher() -> None:
    """For ranks that hear no answers: `leave` once nobody holds the other end of stdin."""

    def wait() -> None:
        end = select.poll()
        # Its end alone: what is said is for rank 0.
        end.register(sys.stdin.fileno(), 0)
        end.poll()
        leave()

    threading.Thread(target=wait, name="tune-watcher", daemon=True).start()


class Channel:
    """The trial's end; on rank 0 only."""

    def __init__(self) -> None:
        self._answers: queue.Queue[str] = queue.Queue()
        self._closed = False
        threading.Thread(target=self._listen, name="tune-channel", daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._answers.put(line.strip())
        self._closed = True
        self._answers.put(GO)
        leave()

    def say(self, message: dict[str, Any]) -> None:
        """One line to the watcher. A watcher that has gone is no error: see this module."""
        try:
            sys.stdout.write(f"\n{MARK}{json.dumps(message)}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def report(self, message: dict[str, Any]) -> bool:
        """Say a report and wait for the answer: whether to stop."""
        if self._closed:
            return False
        self.say(message)
        return self._answers.get() == STOP


class Reporter:
    """Holds a report back until the step is over, so that its checkpoint is there.

    `evaluate` of a stage notes it; the next step, or the end of the trial, sends it.
    """

    def __init__(self, send: Callable[[dict[str, Any]], bool]):
        self._send = send
        self._pending: dict[str, Any] | None = None

    def note(self, message: dict[str, Any]) -> None:
        """A report of the step that is being finished. Rank 0."""
        self._pending = message

    def flush(self) -> bool:
        """Send what was noted; whether to stop."""
        message, self._pending = self._pending, None
        return self._send(message) if message is not None else False
