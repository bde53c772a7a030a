"""Which values a trial gets: from the seed, its number, and (tpe) the trials before it.

Nothing else is remembered, so a sweep that was killed draws the same values again: every number
has a sampler of its own, seeded by it, and the study is built from the trials' files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from norface.errors import ConfigError
from norface.training.seeding import sample_rng
from tune.config import AshaConfig, SweepConfig
from tune.folder import OBJECTIVE, Trial
from tune.space import Parameter, drawn_keys, grid_cells

if TYPE_CHECKING:
    import optuna

TRIES, TRIES_OF_TPE = 200, 20
"""Draws of a trial whose values do not fit together before the space is called impossible; tpe
draws each key by itself and may insist on two that do not fit, so then they are drawn at random."""
NUMBER = "norface.trial"
"Name of our number among the study's user attributes."


class Study:
    """Optuna's study of a sweep: in memory, or in a storage that jobs share."""

    def __init__(self, sweep: SweepConfig, storage: Any = None):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("optuna").setLevel(logging.WARNING)
        self.sweep = sweep
        self.study = optuna.create_study(
            study_name=sweep.name,
            storage=storage,
            direction="maximize" if sweep.objective.mode == "max" else "minimize",
            load_if_exists=True,
        )
        self.cells = grid_cells(sweep.space)
        self.drawn: dict[str, Parameter] = {
            key: sweep.space[key] for key in drawn_keys(sweep.space)
        }

    def propose(self, number: int, fits: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """The values of a trial; values that do not fit together are drawn again.

        Raises ConfigError when none fit.
        """
        cell = self.cells[number % len(self.cells)]
        if (known := self.find(number)) is not None:
            # A job died between its draw and its trial's file.
            values = self._values(cell, known.params)
            if fits(values):
                return values
        for attempt in range(TRIES if self.drawn else 1):
            trial = self._ask(number, attempt)
            values = self._values(cell, trial.params)
            if fits(values):
                trial.set_user_attr(NUMBER, number)
                return values
            self.study.tell(trial, state=self._state("failed"))
        raise ConfigError(
            f"space: no valid values found for trial {number}; what does not fit together?"
            f" The last were {values}"
        )

    def _values(self, cell: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """What stands in the grid's cell and what was drawn, in the order of the space."""
        drawn = {key: p.to_value(params[key]) for key, p in self.drawn.items()}
        return {key: {**cell, **drawn}[key] for key in self.sweep.space}

    def _ask(self, number: int, attempt: int) -> optuna.trial.Trial:
        from optuna.samplers import RandomSampler, TPESampler

        rng = sample_rng(self.sweep.seed, number, attempt, "sweep")
        seed = int(rng.integers(2**31))
        if self.sweep.search.kind == "tpe" and attempt < TRIES_OF_TPE:
            # constant_liar: trials that run count as bad, so that two at once differ.
            self.study.sampler = TPESampler(
                seed=seed, n_startup_trials=self.sweep.search.startup, constant_liar=True
            )
        else:
            self.study.sampler = RandomSampler(seed=seed)
        return self.study.ask({key: p.distribution() for key, p in self.drawn.items()})

    def remember(self, trial: Trial) -> None:
        """Add a trial that the study does not know: one of a sweep that goes on."""
        import optuna

        if self.find(trial.number) is not None:
            return
        params = {key: p.to_drawn(trial.values[key]) for key, p in self.drawn.items()}
        state, value = self._outcome(trial)
        self.study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params=params,
                distributions={key: p.distribution() for key, p in self.drawn.items()},
                value=value,
                intermediate_values=(
                    {trial.reports: trial.value} if trial.value is not None else {}
                ),
                user_attrs={NUMBER: trial.number},
            )
        )

    def find(self, number: int) -> optuna.trial.FrozenTrial | None:
        """The study's trial of our number."""
        known = self.study.get_trials(deepcopy=False)
        return next((one for one in known if one.user_attrs.get(NUMBER) == number), None)

    def report(self, number: int, line: Mapping[str, Any]) -> None:
        """A report of a trial that runs, for `should_stop` of this and of others."""
        running, value = self._open(number), line.get(OBJECTIVE)
        known = self.find(number)
        is_new = known is not None and line["step"] not in known.intermediate_values
        if running is not None and is_new and value is not None:
            running.report(value, line["step"])

    def should_stop(self, number: int) -> bool:
        """Whether Optuna's successive halving wants no more of a trial, by its last report."""
        from optuna.pruners import SuccessiveHalvingPruner

        settings = self.sweep.scheduler
        if not isinstance(settings, AshaConfig):
            return False
        self.study.pruner = SuccessiveHalvingPruner(
            min_resource=settings.grace, reduction_factor=max(2, round(settings.factor))
        )
        running = self._open(number)
        return running is not None and running.should_prune()

    def _open(self, number: int) -> optuna.trial.Trial | None:
        """The study's trial; None where the study knows how it ended, from a job that then died."""
        import optuna

        known = self.find(number)
        if known is None or known.state.is_finished():
            return None
        return optuna.trial.Trial(self.study, known._trial_id)

    def tell(self, trial: Trial) -> None:
        """How a trial ended."""
        known = self.find(trial.number)
        if known is None or known.state.is_finished():
            return
        state, value = self._outcome(trial)
        self.study.tell(known.number, value, state=state)

    def _outcome(self, trial: Trial) -> tuple[optuna.trial.TrialState, float | None]:
        """State and value for Optuna, which takes a trial without a number for a failed one."""
        if trial.state in ("finished", "stopped"):
            return self._state("failed" if trial.value is None else trial.state), trial.value
        return self._state(trial.state), None

    @staticmethod
    def _state(state: str) -> optuna.trial.TrialState:
        from optuna.trial import TrialState

        # What a scheduler stopped tells what it was worth when it was stopped.
        return {
            "running": TrialState.RUNNING,
            "finished": TrialState.COMPLETE,
            "stopped": TrialState.COMPLETE,
            "failed": TrialState.FAIL,
        }[state]
