"""Metrics against scikit-learn and by worked values."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from norface.errors import ConfigError
from norface.evaluation.metrics import (
    accuracy,
    binary_f1,
    icc_consistency,
    mean_absolute_error,
    mean_squared_error,
    never_present,
    pearson,
    roc_auc,
)


@pytest.fixture
def sample():
    rng = np.random.default_rng(3)
    truth = (rng.random(200) < 0.3).astype(float)
    score = np.round(np.clip(truth * 0.3 + rng.random(200) * 0.7, 0, 1), 2)
    return truth, score


def test_f1_accuracy_and_auc_agree_with_scikit_learn(sample):
    truth, score = sample
    predicted = (score >= 0.5).astype(float)
    assert binary_f1(truth, predicted) == pytest.approx(oracle.f1_score(truth, predicted))
    assert accuracy(truth, predicted) == pytest.approx(oracle.accuracy_score(truth, predicted))
    assert roc_auc(truth, score) == pytest.approx(oracle.roc_auc_score(truth, score))


def test_au_f1_of_all_zero_is_zero_not_nan():
    assert binary_f1(np.zeros(5), np.zeros(5)) == 0.0


def test_f1_of_a_unit_that_is_never_predicted_is_zero():
    assert binary_f1(np.array([1, 0, 1]), np.zeros(3)) == 0.0


def test_f1_of_a_worked_example():
    # TP 1, FP 1, FN 1: 2 / 4.
    assert binary_f1(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0])) == 0.5


def test_a_unit_that_is_never_present_is_told_apart():
    assert never_present(np.zeros(4))
    assert not never_present(np.array([0, 1]))


def test_auc_of_one_class_is_undefined_and_ties_count_half():
    assert np.isnan(roc_auc(np.ones(3), np.arange(3)))
    assert roc_auc(np.array([0, 1]), np.array([0.4, 0.4])) == 0.5


def test_icc_is_consistency_so_a_constant_shift_costs_nothing():
    y = np.array([0.0, 1, 2, 5, 3])
    assert icc_consistency(y, y + 7) == pytest.approx(1)
    assert icc_consistency(y, -y) == pytest.approx(-1)


def test_icc_agrees_with_the_mean_squares_of_its_definition():
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(size=30), rng.normal(size=30)
    table = np.stack([truth, predicted], 1)
    n, k = table.shape
    total = table.mean()
    between = k * ((table.mean(1) - total) ** 2).sum() / (n - 1)
    residual = table - table.mean(1, keepdims=True) - table.mean(0) + total
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    expected = (between - error) / (between + (k - 1) * error)
    assert icc_consistency(truth, predicted) == pytest.approx(expected)


def test_errors_and_correlation_agree_with_numpy_and_scikit_learn(sample):
    truth, score = sample
    assert mean_squared_error(truth, score) == pytest.approx(
        oracle.mean_squared_error(truth, score)
    )
    assert mean_absolute_error(truth, score) == pytest.approx(
        oracle.mean_absolute_error(truth, score)
    )
    assert pearson(truth, score) == pytest.approx(np.corrcoef(truth, score)[0, 1])


def test_what_does_not_vary_correlates_with_nothing():
    assert pearson(np.ones(4), np.arange(4)) == 0
    assert icc_consistency(np.ones(4), np.ones(4)) == 0


def test_mismatched_and_empty_arrays_are_refused():
    with pytest.raises(ConfigError, match=r"shape \(3,\) and prediction of shape \(4,\)"):
        binary_f1(np.ones(3), np.ones(4))
    with pytest.raises(ConfigError, match="above 0"):
        accuracy(np.ones(0), np.ones(0))
