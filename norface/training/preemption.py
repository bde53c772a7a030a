"""Being asked to stop: signals => a flag that the trainer reads at every step edge.

SIGUSR1 and SIGUSR2 (Slurm's `--signal`) and SIGTERM (scancel, preemption, `docker stop`) all mean:
save now, end, and be started again later. The process then ends with RESUME_CODE, so that a
launcher can tell "start me again" from "done" (0) and from a failure.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

STOP_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)

RESUME_CODE = 75
"Exit code (EX_TEMPFAIL of sysexits.h) of a run that saved on request: start it again."


class StopRequest:
    """Whether somebody asked the process to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def asked(self) -> bool:
        """True from the first signal on."""
        return self.signal is not None

    def note(self, number: int, _frame: FrameType | None = None) -> None:
        """Signal handler: remember, and let the step finish."""
        self.signal = signal.Signals(number)


class StoppedOnRequest(SystemExit):
    """A run ended at a step edge because it was asked to; unhandled, the exit code is RESUME_CODE.

    A SystemExit, so that no `except Exception` on the way takes it for a failed run.
    """

    def __init__(self, folder: Path, step: int):
        super().__init__(RESUME_CODE)
        self.folder, self.step = folder, step


_active: StopRequest | None = None


@contextlib.contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Notes stop signals while the block runs; the handlers from before come back after it.

    A block inside another shares its request, so a signal between two runs of a cross-validation
    stops the next one. Outside the main thread no handler can be set and nothing is ever asked.
    """
    global _active
    if _active is not None:
        yield _active
        return
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.note) for number in STOP_SIGNALS}
    _active = request
    try:
        yield request
    finally:
        _active = None
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_stop_signals() -> None:
    """For processes that read for a training one: whoever asks a job to stop may ask all of them,
    and the training process needs them until it has saved."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
