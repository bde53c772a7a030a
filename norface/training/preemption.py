"""Being asked to stop: signals => a flag that the trainer reads at every step edge.

SIGUSR1 and SIGUSR2 (Slurm's `--signal`) and SIGTERM (scancel, preemption, `docker stop`) all mean:
save now, end, and be started again later. The process then ends with RESUME_CODE, so that a
launcher can tell "start me again" from "done" (0) and from a failure.

Whoever asks also kills, after a grace time. A process that does not come to a step edge by then (a
rank that waits for another, a step that is too long) must end before, or the launcher has no time
left to queue the job again: with NORFACE_GRACE_S in the environment it ends by force so many
seconds after the first signal, with the same code. The last checkpoint counts then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from norface.errors import LaunchError

STOP_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)

RESUME_CODE = 75
"Exit code (EX_TEMPFAIL of sysexits.h) of a run that saved on request: start it again."


GRACE_VARIABLE = "NORFACE_GRACE_S"
"Seconds from the first stop signal to the forced end; not set = none is forced."


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
    # The watch first: a signal that is only noted would never be followed by a forced end.
    with ending_by_force(read_grace()):
        before = {number: signal.signal(number, request.note) for number in STOP_SIGNALS}
        _active = request
        try:
            yield request
        finally:
            _active = None
            for number, handler in before.items():
                signal.signal(number, handler)


def read_grace() -> float | None:
    """Seconds that NORFACE_GRACE_S gives. Raises LaunchError where it is no number above 0."""
    text = os.environ.get(GRACE_VARIABLE)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise LaunchError(f"{GRACE_VARIABLE}: found '{text}'; expected seconds, for example 150")
    return seconds


@contextlib.contextmanager
def ending_by_force(grace_s: float | None) -> Iterator[None]:
    """The process ends with RESUME_CODE `grace_s` after a stop signal, unless the block ends first.

    A handler in Python runs between two instructions of the main thread, which may be waiting for
    other ranks for ever. So the signals also go through a pipe to a thread, which waits.
    """
    if grace_s is None:
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    left = threading.Event()

    def watch() -> None:
        while (number := os.read(reading, 1)[0]) not in STOP_SIGNALS:
            if number == 0:
                return
        if left.wait(grace_s):
            return
        name, rank = signal.Signals(number).name, os.environ.get("RANK", "0")
        print(
            f"rank {rank}: no step edge within {grace_s:g} s of {name}; ended by force, unsaved;"
            " the last checkpoint counts",
            file=sys.stderr,
            flush=True,
        )
        os._exit(RESUME_CODE)

    thread = threading.Thread(target=watch, name="grace", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        # Not by closing it: reading processes that were forked meanwhile hold that end too.
        os.write(writing, b"\0")
        thread.join()
        os.close(writing)
        os.close(reading)


def ignore_stop_signals() -> None:
    """For processes that read for a training one: whoever asks a job to stop may ask all of them,
    and the training process needs them until it has saved."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
