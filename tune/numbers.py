"""Ray's searcher: gives one trial after the other. Which values it has is the sweep's affair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from tune.folder import OBJECTIVE

if TYPE_CHECKING:
    from tune.sweep import Sweep


class Numbers(Searcher):
    """The trials of these numbers, in this order."""

    def __init__(self, sweep: Sweep, numbers: Sequence[int]) -> None:
        super().__init__(metric=OBJECTIVE, mode=sweep.config.objective.mode)
        self.sweep: Sweep | None = sweep
        self.waiting, self.given = list(numbers), dict[str, int]()

    def suggest(self, trial_id: str) -> Any:
        if not self.waiting:
            return Searcher.FINISHED
        assert self.sweep is not None
        trial = self.sweep.begin(self.waiting.pop(0))
        self.given[trial_id] = trial.number
        return {"number": trial.number, "values": trial.values}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        assert self.sweep is not None
        self.sweep.end(self.given[trial_id], died=error)

    def __getstate__(self) -> dict[str, Any]:
        # Ray saves its searchers now and again; the sweep's folder is the truth.
        return {**self.__dict__, "sweep": None}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
