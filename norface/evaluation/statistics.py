"""How sure a figure is: bootstrap over persons, and paired comparison of two settings.

Frames of one person resemble each other, so persons are drawn, not frames: in every fold as many
as it tests, with replacement. All metrics here are functions of sums over frames; each person's
sums are taken once, and a draw is a product of counts and sums. The draws depend on the seed and on
the persons only, so two settings are compared on the same draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from norface.errors import CorpusError

MAIN_METRIC = {"au": "f1", "intensity": "icc", "emotion": "accuracy"}
"Task => the metric that it is reported in."


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """{"value", "low", "high"}, rounded to six decimals."""
        return {name: round(value, 6) for name, value in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclasses.dataclass(frozen=True)
class PersonSums:
    """Sums over the frames of each person: `sums` (persons, targets, terms)."""

    persons: list[str]
    targets: list[str]
    sums: np.ndarray


def persons_of(table: pd.DataFrame) -> pd.Series:
    """corpus/subject of each row; the key itself where the corpus names no subject."""
    named = table["subject"].fillna("").astype(str)
    corpus = table["key"].str.partition("_")[0]
    return (corpus + "/" + named).where(named != "", table["key"])


def _f1_terms(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    predicted, present = score >= 0.5, truth == 1
    return np.stack([predicted & present, predicted ^ present], axis=-1)


def _f1(sums: np.ndarray) -> np.ndarray:
    return _divide(2 * sums[..., 0], 2 * sums[..., 0] + sums[..., 1])


def _icc_terms(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    products = [truth, score, truth * truth, score * score, truth * score]
    return np.stack([np.ones_like(truth), *products], axis=-1)


def _icc(sums: np.ndarray) -> np.ndarray:
    count, truth, score, truth2, score2, product = np.moveaxis(sums, -1, 0)
    # n^2 times the covariance and the variances: 2 cov / (var + var) needs no division before.
    covariance = count * product - truth * score
    spread = count * (truth2 + score2) - truth**2 - score**2
    return _divide(2 * covariance, spread)


def _accuracy_terms(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(truth), truth == score], axis=-1)


def _accuracy(sums: np.ndarray) -> np.ndarray:
    return _divide(sums[..., 1], sums[..., 0])


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above, np.float64), where=below != 0)


METRICS: dict[str, tuple[Callable[..., np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "f1": (_f1_terms, _f1),
    "icc": (_icc_terms, _icc),
    "accuracy": (_accuracy_terms, _accuracy),
}
"Name => (terms of a frame, value of their sums); equal to the functions of metrics.py by test."


def sum_by_person(table: pd.DataFrame, task: str) -> PersonSums:
    """Predictions of one fold => sums for the task's main metric.

    Raises CorpusError when no sample has a label.

    Emotion has one target, "accuracy": the class with the highest score against the true class.
    """
    if task == "emotion":
        table = decide_emotion(table)
    known = table[table["truth"].notna()]
    if not len(known):
        raise CorpusError("predictions: no sample has a label; nothing can be measured")
    terms, _ = METRICS[MAIN_METRIC[task]]
    each = terms(known["truth"].to_numpy(float), known["score"].to_numpy(float)).astype(float)
    person, persons = pd.factorize(persons_of(known), sort=True)
    target, targets = pd.factorize(known["target"])
    sums = np.zeros((len(persons), len(targets), each.shape[-1]))
    np.add.at(sums, (person, target), each)
    return PersonSums(list(persons), list(targets), sums)


def decide_emotion(table: pd.DataFrame) -> pd.DataFrame:
    """One row a labelled sample: truth and score are the true and the chosen class's number."""
    scores = table.pivot(index="key", columns="target", values="score")
    truth = table.pivot(index="key", columns="target", values="truth")[scores.columns]
    first = table.drop_duplicates("key").set_index("key").loc[scores.index].reset_index()
    labelled = truth.notna().all(axis=1).to_numpy()
    decided = first.assign(
        target="accuracy",
        truth=np.where(labelled, truth.fillna(0).to_numpy().argmax(axis=1), np.nan),
        score=scores.to_numpy().argmax(axis=1).astype(float),
    )
    return decided[labelled]


def bootstrap(
    folds: Sequence[Sequence[PersonSums]], metric: str, *, draws: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Point values (targets,) and draws (draws, targets), averaged over folds and their seeds.

    folds[f][s]: sums of fold f and seed s; a draw takes the same persons for every seed of a fold.
    """
    value = METRICS[metric][1]
    rng = np.random.default_rng(seed)
    targets = {tuple(run.targets) for runs in folds for run in runs}
    if len(targets) > 1:
        raise CorpusError(
            "predictions: the folds have labels for different targets; give like runs"
        )
    points, samples = [], []
    for runs in folds:
        count = len(runs[0].persons)
        if any(run.persons != runs[0].persons for run in runs):
            raise CorpusError("predictions of one fold are of different persons; give like runs")
        weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(float)
        points.append(np.mean([value(run.sums.sum(axis=0)) for run in runs], axis=0))
        drawn = [value(np.einsum("dp,pts->dts", weights, run.sums)) for run in runs]
        samples.append(np.mean(drawn, axis=0))
    return np.mean(points, axis=0), np.mean(samples, axis=0)


def make_interval(value: float, draws: np.ndarray) -> Interval:
    """The figure and the 2.5 and 97.5 percentiles of its draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


def compare_settings(
    first: Sequence[Sequence[PersonSums]], second: Sequence[Sequence[PersonSums]], metric: str
) -> Interval:
    """Mean over targets of second - first on the same draws: above 0 = the second is better."""
    point_one, draws_one = bootstrap(first, metric)
    point_two, draws_two = bootstrap(second, metric)
    return make_interval((point_two - point_one).mean(), (draws_two - draws_one).mean(axis=1))
