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

KEY_WORDS = 4
"Of a key of ours: corpus, subject, clip, frame."
MAIN_METRIC = {"au": "f1", "intensity": "icc", "emotion": "accuracy"}
"Task => the metric that it is reported in."
TASK_METRICS = {"au": ("f1", "auc", "accuracy"), "intensity": ("icc",), "emotion": ("accuracy",)}
"Task => the metrics that have intervals, the main one first."


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

    def value(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """The metric (draws, targets) where each person counts `weights` (draws, persons) times."""
        return METRICS[metric][1](np.einsum("dp,pts->dts", weights, self.sums))

    def ordered(self, targets: Sequence[str]) -> PersonSums:
        """The same with its targets in this order."""
        order = [self.targets.index(target) for target in targets]
        return dataclasses.replace(self, targets=list(targets), sums=self.sums[:, order])


@dataclasses.dataclass(frozen=True)
class PersonPairs(PersonSums):
    """What the area under the ROC curve is made of: it compares frames of two persons.

    `sums` (persons, targets, 2) counts positives and negatives; `pairs` (persons, persons, targets)
    the pairs of a positive of the first and a negative of the second person that are in order.
    """

    pairs: np.ndarray

    def value(self, metric: str, weights: np.ndarray) -> np.ndarray:
        """As PersonSums.value; NaN where a draw has one class only."""
        positives, negatives = np.einsum("dp,pts->sdt", weights, self.sums)
        ordered = np.einsum("dp,pqt,dq->dt", weights, self.pairs, weights, optimize=True)
        total = positives * negatives
        return np.divide(ordered, total, out=np.full_like(total, np.nan), where=total != 0)

    def ordered(self, targets: Sequence[str]) -> PersonPairs:
        """The same with its targets in this order."""
        order = [self.targets.index(target) for target in targets]
        sums, pairs = self.sums[:, order], self.pairs[:, :, order]
        return dataclasses.replace(self, targets=list(targets), sums=sums, pairs=pairs)


def persons_of(table: pd.DataFrame) -> pd.Series:
    """corpus/subject of each row; the key itself where no subject is named.

    A key of ours, corpus_subject_clip_frame, says the corpus. Somebody else's does not, and the
    subject alone is the person: its first word would make a person of every clip or frame.
    """
    named = table["subject"].fillna("").astype(str).to_numpy(str)
    row, keys = pd.factorize(table["key"])
    words = [key.split("_") for key in keys]
    corpus, subject = (
        np.array([one[place] if len(one) == KEY_WORDS else "" for one in words], str)[row]
        for place in (0, 1)
    )
    prefix = np.where(subject == named, np.char.add(corpus, "/"), "")
    person = np.where(named != "", np.char.add(prefix, named), keys.to_numpy(str)[row])
    return pd.Series(person, index=table.index, dtype=object)


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


def _auc_terms(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    return np.stack([truth == 1, truth != 1], axis=-1)


METRICS: dict[str, tuple[Callable[..., np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "f1": (_f1_terms, _f1),
    "icc": (_icc_terms, _icc),
    "accuracy": (_accuracy_terms, _accuracy),
    "auc": (_auc_terms, lambda sums: sums[..., 0]),
}
"Name => (terms of a frame, value of their sums); equal to the functions of metrics.py by test."


def sum_by_person(table: pd.DataFrame, task: str, metric: str | None = None) -> PersonSums:
    """Predictions of one fold => sums for a metric of TASK_METRICS (None = the task's main one).

    Raises CorpusError when no sample has a label.

    Emotion has one target, "accuracy": the class with the highest score against the true class.
    """
    if task == "emotion":
        table = decide_emotion(table)
    known = table[table["truth"].notna()]
    if not len(known):
        raise CorpusError("predictions: no sample has a label; nothing can be measured")
    metric = metric or MAIN_METRIC[task]
    truth, score = known["truth"].to_numpy(float), known["score"].to_numpy(float)
    if task == "au" and metric == "accuracy":
        score = (score >= 0.5).astype(float)
    person, persons = pd.factorize(persons_of(known), sort=True)
    target, targets = pd.factorize(known["target"])
    each = METRICS[metric][0](truth, score).astype(float)
    sums = np.zeros((len(persons), len(targets), each.shape[-1]))
    np.add.at(sums, (person, target), each)
    if metric != "auc":
        return PersonSums(list(persons), list(targets), sums)
    pairs = np.zeros((len(persons), len(persons), len(targets)))
    for number in range(len(targets)):
        rows = target == number
        pairs[:, :, number] = _count_pairs(truth[rows], score[rows], person[rows], len(persons))
    return PersonPairs(list(persons), list(targets), sums, pairs)


def _count_pairs(
    truth: np.ndarray, score: np.ndarray, person: np.ndarray, persons: int
) -> np.ndarray:
    """(persons, persons): positives of the row's person above negatives of the column's person,
    ties counting half."""
    pairs = np.zeros((persons, persons))
    positive = truth == 1
    for one in np.unique(person[~positive]):
        below = np.sort(score[~positive & (person == one)])
        above = score[positive]
        count = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
        pairs[:, one] = np.bincount(person[positive], count / 2, minlength=persons)
    return pairs


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
        once = np.ones((1, count))
        points.append(np.mean([run.value(metric, once)[0] for run in runs], axis=0))
        samples.append(np.mean([run.value(metric, weights) for run in runs], axis=0))
    return np.mean(points, axis=0), np.mean(samples, axis=0)


def make_interval(value: float, draws: np.ndarray) -> Interval:
    """The figure and the 2.5 and 97.5 percentiles of its draws, those without a value left out."""
    known = draws[~np.isnan(draws)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))


def compare_settings(
    first: Sequence[Sequence[PersonSums]], second: Sequence[Sequence[PersonSums]], metric: str
) -> Interval:
    """Mean over targets of second - first on the same draws: above 0 = the second is better."""
    point_one, draws_one = bootstrap(first, metric)
    point_two, draws_two = bootstrap(second, metric)
    return make_interval((point_two - point_one).mean(), (draws_two - draws_one).mean(axis=1))
