"""A function over many items in several processes, with its results in the order of the items.

    for item, result in run_in_order(items, functools.partial(make_worker, settings), workers=8):
        ...

`make_worker(settings)` is called once in every process and returns the function of one item, so
what is slow to load (a network) is loaded once. With one worker all of it happens in this process.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from norface.errors import NorfaceError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 3
"Items given to each process before the oldest result is waited for."


def run_in_order(
    items: Iterable[T], start: Callable[[], Callable[[T], R]], *, workers: int
) -> Iterator[tuple[T, R]]:
    """Items with their results. `start`, items and results must travel between processes.

    An exception of the function is raised here. Raises NorfaceError when a process was killed.
    """
    if workers <= 1:
        work = start()
        yield from ((item, work(item)) for item in items)
        return
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_process, (start,)
    ) as pool:
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                # A short queue: results that are ready wait in memory for the slow one before them.
                waiting.append((item, pool.submit(_work, item)))
                if len(waiting) >= AHEAD * workers:
                    oldest, result = waiting.popleft()
                    yield oldest, result.result()
            while waiting:
                oldest, result = waiting.popleft()
                yield oldest, result.result()
        except BrokenProcessPool:
            raise NorfaceError(
                "a worker process was killed (out of memory?); run the same command with fewer"
                " --workers"
            ) from None
        finally:
            for _, result in waiting:
                result.cancel()


_start: Callable[[], Callable[[Any], Any]]
_function: Callable[[Any], Any] | None = None
"In a worker process: the function, once the first item has asked for it."


def _start_process(start: Callable[[], Callable[[Any], Any]]) -> None:
    global _start
    _start = start
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: a killed parent cannot say so."""
    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(item: Any) -> Any:
    # Here and not when the process starts, where an exception would only break the pool.
    global _function
    if _function is None:
        _function = _start()
    return _function(item)
