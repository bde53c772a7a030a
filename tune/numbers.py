"""What Ray is given to run, and what is noted when it ends. Values are the sweep's affair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.search import Searcher

from tune.folder import OBJECTIVE
from tune.nodes import wait_for_lost_nodes

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from tune.search import StopRequests
    from tune.sweep import Sweep


def all_at_once(sweep: Sweep, numbers: Sequence[int]) -> dict[str, Any]:
    """Ray's space of the trials of these numbers, for a population: it takes no searcher's."""
    values = {number: sweep.begin(number).values for number in numbers}
    return {
        "number": tune.grid_search(list(numbers)),
        "values": tune.sample_from(lambda config: values[config["number"]]),
    }


class Numbers(Searcher):
    """The trials of these numbers, in this order."""

    def __init__(self, sweep: Sweep, numbers: Sequence[int]) -> None:
        super().__init__(metric=OBJECTIVE, mode=sweep.config.objective.mode)
        self.sweep: Sweep | None = sweep
        self.waiting = list(numbers)

    def suggest(self, trial_id: str) -> Any:
        if not self.waiting:
            return Searcher.FINISHED
        assert self.sweep is not None
        trial = self.sweep.begin(self.waiting.pop(0))
        return {"number": trial.number, "values": trial.values}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Watch notes it."""

    def __getstate__(self) -> dict[str, Any]:
        # Ray saves its searchers now and again; the sweep's folder is the truth.
        return {**self.__dict__, "sweep": None}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class Watch(tune.Callback):
    """Notes in the sweep's folder how each trial ended; asks between two steps whether to stop.

    It listens to signals again once Ray has set handlers of its own, and asks some ten times a
    second.
    """

    def __init__(self, sweep: Sweep, stop: StopRequests) -> None:
        self.sweep: Sweep | None = sweep
        self.stop: StopRequests | None = stop
        self.lost: Counter[int] = Counter()
        "Trial => how often its actor was lost."

    def setup(self, *_: Any, **__: Any) -> None:
        assert self.stop is not None
        self.stop.listen()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        assert self.stop is not None
        self.stop.check()

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Its actor is lost, and Ray is about to start it again."""
        self._note_lost(int(str(trial)))

    def _note_lost(self, number: int) -> None:
        assert self.stop is not None
        stop = self.stop
        self.lost[number] += 1
        print(f"trial {number:04d} lost its node or its process; it is started again", flush=True)
        wait_for_lost_nodes(lambda: stop.asked)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        assert self.sweep is not None
        self.sweep.end(int(str(trial)))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        assert self.sweep is not None
        number = int(str(trial))
        if self.lost[number] >= self.sweep.config.resources.retries:
            self.sweep.end(number, died=True)
        else:
            # Its actor was lost while it started, which Ray never tries twice: `search` does.
            self._note_lost(number)

    def __getstate__(self) -> dict[str, Any]:
        return {"sweep": None, "stop": None, "lost": Counter()}
