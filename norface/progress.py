"""Progress of long work: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Counts `unit`s of a named piece of work.

        with Progress("render", total=1000, unit="picture") as progress:
            progress.advance(8, "loss 0.31")

    On a terminal it draws one tqdm bar; in a log it prints a line every `every_s` seconds. A total
    of 0 is an unknown one.
    """

    def __init__(
        self, name: str, total: int, unit: str = "image", done: int = 0, every_s: float = 15
    ):
        self.name, self.total, self.unit, self.done = name, total, unit, done
        self._first, self._started = done, time.monotonic()
        self._every_s, self._printed = every_s, time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total or None, initial=done, desc=name, unit=f" {unit}", dynamic_ncols=True
            )

    def advance(self, count: int = 1, note: str = "") -> None:
        """Report `count` more units, with an optional word on how it goes."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            if note:
                self._bar.set_postfix_str(note, refresh=False)
        elif time.monotonic() - self._printed >= self._every_s:
            self._printed = time.monotonic()
            print(self.line(note), file=sys.stderr, flush=True)

    def line(self, note: str = "", *, ended: bool = False) -> str:
        """`render: 250/1000 pictures, 31.2/s, 0:24 left, loss 0.31`; at the end no time is left."""
        rate = (self.done - self._first) / max(time.monotonic() - self._started, 1e-9)
        if not self.total:
            return f"{self.name}: {self.done} {self.unit}s, {rate:.1f}/s"
        if ended:
            return f"{self.name}: {self.done}/{self.total} {self.unit}s, {rate:.1f}/s"
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        clock = f"{format_clock(left)} left" if left != float("inf") else "time left unknown"
        text = f"{self.name}: {self.done}/{self.total} {self.unit}s, {rate:.1f}/s, {clock}"
        return f"{text}, {note}" if note else text

    def close(self) -> None:
        """End the bar, or print the last line."""
        if self._bar is not None:
            self._bar.close()
        elif self.done > self._first:
            print(self.line(ended=True), file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def format_clock(seconds: float) -> str:
    """0:24, 59:59, 1:00:00."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def track(items: Iterable[T], name: str, total: int, unit: str = "image") -> Iterator[T]:
    """Pass items on while counting them."""
    with Progress(name, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()
