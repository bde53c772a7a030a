"""What rank 0 does alone and all ranks must know: results and errors of writing and reading."""

from __future__ import annotations

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
