"""Memory and time of a function in a process of its own, where nothing else has left a mark."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psutil


class Measured(NamedTuple):
    """What a function took."""

    result: Any
    seconds: float
    peak_mb: float
    "Highest memory of the process, its imports included."


def measure_alone(function: Callable[..., Any], *arguments: Any) -> Measured:
    """Call a function of a module in a new process. Its exceptions are raised here."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, function, arguments).result()


def _measure(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Measured:
    began = time.perf_counter()
    result = function(*arguments)
    return Measured(result, time.perf_counter() - began, peak_mb())


def resident_mb() -> float:
    """Memory of this process now."""
    return psutil.Process().memory_info().rss / 2**20


def peak_mb() -> float:
    """Highest memory of this process so far, where Linux tells; else its memory now."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return resident_mb()
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else resident_mb()
