"""Intervals of means and of differences between settings, over all units or some of them.

drawn = draw_settings(crossval, ["without", "norface"])
difference(drawn["norface"], drawn["without"], ["AU1", "AU2"])     # with minus without
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from norface.evaluation.collecting import read_folds
from norface.evaluation.crossval_config import CrossvalConfig
from norface.evaluation.statistics import MAIN_METRIC, Interval, bootstrap, make_interval
from norface.evaluation.summary import sum_folds

Units = Sequence[str] | None
"Names of units to average over; None = all."


class Draws(NamedTuple):
    """The main metric of a setting, and of the same draws of persons for every setting."""

    targets: list[str]
    point: np.ndarray
    "(targets,), 0..1."
    draws: np.ndarray
    "(draws, targets)."

    def means(self, units: Units) -> tuple[float, np.ndarray]:
        """Mean over the units, and those of the draws."""
        chosen = [self.targets.index(name) for name in units or self.targets]
        return float(self.point[chosen].mean()), self.draws[:, chosen].mean(axis=1)


def draw_settings(crossval: CrossvalConfig, settings: Sequence[str]) -> dict[str, Draws]:
    """Setting => its draws, of settings that are trained in all folds and seeds."""
    chosen = {name: crossval.settings[name] for name in settings}
    if not chosen:
        return {}
    tables, _, _ = read_folds(crossval.model_copy(update={"settings": chosen}))
    found = {}
    for name, folds in tables.items():
        sums = sum_folds(folds, crossval.cla.task)
        point, draws = bootstrap(sums, MAIN_METRIC[crossval.cla.task])
        found[name] = Draws(sums[0][0].targets, point, draws)
    return found


def interval(one: Draws, units: Units = None) -> Interval:
    """The mean over the units with its 95 % by persons."""
    return make_interval(*one.means(units))


def difference(better: Draws, worse: Draws, units: Units = None) -> Interval:
    """better - worse on the same draws: above 0 = the first is better."""
    (point, draws), (other_point, other_draws) = better.means(units), worse.means(units)
    return make_interval(point - other_point, draws - other_draws)
