"""What all ranks must know: results and errors of what rank 0 does alone, and when to look."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from norface.errors import NorfaceError
from norface.training.backends.base import Backend


def on_main(backend: Backend, work: Callable[[], Any]) -> Any:
    """Run `work` on rank 0; every rank gets its result (plain data).

    A NorfaceError of `work` is raised on rank 0, where it is told to the user once; the other ranks
    end with the same exit code (SystemExit(2)) instead of waiting for rank 0 without end.
    """
    result, error = None, None
    if backend.is_main:
        try:
            result = work()
        except NorfaceError as caught:
            error = caught
    failed, result = backend.gather_objects((error is not None, result))[0]
    if failed:
        fail_on_all(backend, error)
    return result


def fail_on_all(backend: Backend, error: NorfaceError | None) -> None:
    """End the run on every rank, with the error's line printed by rank 0 only."""
    if backend.is_main and error is not None:
        raise error
    raise SystemExit(2)


class Looks:
    """When all ranks look at losses and stop requests: after each step on CPU.

    On a GPU a look waits for the device: there after 16 steps, or after so many as take 2 s, so
    that a short grace time is enough for slow steps too.
    """

    MOST_STEPS, MOST_S = 16, 2.0

    def __init__(self, *, on_gpu: bool):
        self._on_gpu, self._next = on_gpu, 0
        self._step, self._time = 0, time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to look after `step` steps. The same on all ranks."""
        return step >= self._next

    def propose(self, step: int) -> int:
        """Steps until the next look, by this rank's clock; 1 at the first look."""
        first, seconds = self._next == 0, time.monotonic() - self._time
        if not self._on_gpu or first:
            return 1
        return self.choose(seconds / max(step - self._step, 1))

    def accept(self, step: int, steps: int) -> None:
        """Go by what all ranks agreed on at `step`."""
        self._step, self._time, self._next = step, time.monotonic(), step + steps

    @classmethod
    def choose(cls, seconds: float) -> int:
        """Steps between looks where a step takes so many seconds."""
        return max(1, min(cls.MOST_STEPS, int(cls.MOST_S / max(seconds, 1e-9))))
