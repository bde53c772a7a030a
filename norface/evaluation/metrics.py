"""Metrics of recognition: 1-D arrays in, float out. No model, no missing values in here.

Every function raises ConfigError on arrays of different or no length: a score of mismatched
arrays would be a number without meaning.
"""

from __future__ import annotations

import numpy as np

from norface.errors import ConfigError

Array = np.ndarray


def binary_f1(truth: Array, predicted: Array) -> float:
    """2 TP / (2 TP + FP + FN) of the positive class; truth and predicted are 0 or 1.

    0 where that is 0/0: nothing was predicted and the unit never occurs (`never_present` says so).
    Over the samples of all units together it is their F1-micro.
    """
    truth, predicted = _pair(truth, predicted)
    hit = float(np.sum((truth == 1) & (predicted == 1)))
    wrong = float(np.sum(truth != predicted))
    return 2 * hit / (2 * hit + wrong) if hit + wrong else 0.0


def confusion_matrix(truth: Array, predicted: Array, classes: int) -> Array:
    """Counts int64 (classes, classes): row = true class, column = predicted; numbers from 0."""
    truth, predicted = _pair(truth, predicted)
    for name, numbers in (("true", truth), ("predicted", predicted)):
        if not np.isin(numbers, np.arange(classes)).all():
            raise ConfigError(f"metric: a {name} class is not one of 0..{classes - 1}")
    cells = (truth * classes + predicted).astype(np.int64)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def never_present(truth: Array) -> bool:
    """Whether a unit has no positive sample, so that its F1 can only be 0."""
    return not np.any(np.asarray(truth) == 1)


def accuracy(truth: Array, predicted: Array) -> float:
    """Share of equal entries."""
    truth, predicted = _pair(truth, predicted)
    return float(np.mean(truth == predicted))


def roc_auc(truth: Array, score: Array) -> float:
    """Probability that a positive sample scores above a negative one, ties counting half.

    NaN where only one class is there: the probability is not defined.
    """
    truth, score = _pair(truth, score)
    positive = truth == 1
    count = int(positive.sum())
    if count in (0, len(truth)):
        return float("nan")
    _, inverse, sizes = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(sizes) - (sizes - 1) / 2
    above = rank[inverse][positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(truth) - count)))


def icc_consistency(truth: Array, predicted: Array) -> float:
    """ICC(3,1) of Shrout and Fleiss (1979): two fixed raters, *consistency*: icc(y, y + c) = 1.

    (BMS - EMS) / (BMS + EMS), with BMS and EMS the mean squares between faces and of the residual.
    For two raters that is 2 cov / (var + var). 0 where nothing varies; -1..1 otherwise.
    """
    truth, predicted = _pair(truth, predicted)
    spread = float(truth.var() + predicted.var())
    covariance = float(np.mean((truth - truth.mean()) * (predicted - predicted.mean())))
    return 2 * covariance / spread if spread else 0.0


def mean_squared_error(truth: Array, predicted: Array) -> float:
    """Mean of (truth - predicted)^2."""
    truth, predicted = _pair(truth, predicted)
    return float(np.mean((truth - predicted) ** 2))


def mean_absolute_error(truth: Array, predicted: Array) -> float:
    """Mean of |truth - predicted|."""
    truth, predicted = _pair(truth, predicted)
    return float(np.mean(np.abs(truth - predicted)))


def pearson(truth: Array, predicted: Array) -> float:
    """Pearson correlation (PCC), -1..1; 0 where one of the two does not vary."""
    truth, predicted = _pair(truth, predicted)
    scale = float(np.sqrt(truth.var() * predicted.var()))
    covariance = float(np.mean((truth - truth.mean()) * (predicted - predicted.mean())))
    return covariance / scale if scale else 0.0


def _pair(truth: Array, predicted: Array) -> tuple[Array, Array]:
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if truth.ndim != 1 or truth.shape != predicted.shape or not len(truth):
        raise ConfigError(
            f"metric: truth of shape {truth.shape} and prediction of shape {predicted.shape};"
            " expected two 1-D arrays of one length above 0"
        )
    return truth, predicted
