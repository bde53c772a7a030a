"""Which checkpoints are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Retention:
    """The newest ones, one in every so many steps for ever, and the best by a measure."""

    newest: int
    every_steps: int = 0
    "0 = none is kept for ever."
    best: str = ""
    "A measure, better when higher; with a minus before it, when lower; empty = none."

    def score(self, measures: Mapping[str, float]) -> float | None:
        """How good a checkpoint is, higher is better; None where it was not measured."""
        value = measures.get(self.best.removeprefix("-")) if self.best else None
        return -value if value is not None and self.best.startswith("-") else value

    def choose(self, measures: Mapping[int, Mapping[str, float]]) -> set[int]:
        """Steps to keep, of checkpoints' measures by step."""
        steps = sorted(measures)
        kept = set(steps[-self.newest :])
        if self.every_steps:
            kept |= first_of_each(steps, self.every_steps)
        scores = {step: self.score(found) for step, found in measures.items()}
        known = {step: score for step, score in scores.items() if score is not None}
        # The earlier one of two that are equally good.
        return kept | ({max(sorted(known), key=lambda step: known[step])} if known else set())


def first_of_each(steps: Sequence[int], every: int) -> set[int]:
    """The first step at or after each multiple of `every`: checkpoints come when they come."""
    first: dict[int, int] = {}
    for step in sorted(steps):
        first.setdefault(step // every, step)
    return {step for number, step in first.items() if number > 0}
