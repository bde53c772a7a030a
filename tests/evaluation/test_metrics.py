"""Metrics against scikit-learn and by worked values."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from norface.errors import ConfigError
from norface.evaluation.metrics import (
    accuracy,
    binary_f1,
    confusion_matrix,
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


def test_f1_of_all_units_together_is_scikit_learns_micro_average():
    rng = np.random.default_rng(5)
    truth = (rng.random((60, 4)) < 0.4).astype(int)
    predicted = (rng.random((60, 4)) < 0.4).astype(int)
    expected = oracle.f1_score(truth, predicted, average="micro")
    assert binary_f1(truth.ravel(), predicted.ravel()) == pytest.approx(expected)


def test_confusions_agree_with_scikit_learn_and_by_hand():
    rng = np.random.default_rng(6)
    truth, predicted = rng.integers(0, 5, 80), rng.integers(0, 4, 80)
    expected = oracle.confusion_matrix(truth, predicted, labels=range(5))
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, 5), expected)
    by_hand = confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    assert by_hand.tolist() == [[1, 1], [0, 1]]
    with pytest.raises(ConfigError, match=r"a true class is not one of 0\.\.1"):
        confusion_matrix(np.array([2]), np.array([0]), 2)


def test_icc_agrees_with_pingouin():
    pingouin = pytest.importorskip("pingouin")
    import pandas as pd

    rng = np.random.default_rng(1)
    truth = rng.integers(0, 6, 40).astype(float)
    predicted = truth + rng.normal(size=40) + 0.7
    long = pd.DataFrame(
        {
            "face": np.tile(np.arange(40), 2),
            "rater": np.repeat(["truth", "network"], 40),
            "value": np.concatenate([truth, predicted]),
        }
    )
    found = pingouin.intraclass_corr(long, targets="face", raters="rater", ratings="value")
    # Named ICC3 in older versions, ICC(C,1) in newer ones.
    row = found[found["Type"].isin(["ICC3", "ICC(C,1)"])]
    assert icc_consistency(truth, predicted) == pytest.approx(row["ICC"].iloc[0], abs=1e-6)


def test_icc_of_shrout_and_fleiss_example_is_theirs():
    # Table 2 of Shrout and Fleiss (1979): six targets, four judges, ICC(3,1) = .71 over the four;
    # for two of them the analysis of variance is done by hand here.
    first, second = np.array([9.0, 6, 8, 7, 10, 6]), np.array([2.0, 1, 4, 1, 5, 2])
    # Means of targets 5.5 3.5 6 4 7.5 4, grand mean 61/12; judges' means 46/6 and 15/6.
    between = 2 * sum((m - 61 / 12) ** 2 for m in (5.5, 3.5, 6, 4, 7.5, 4)) / 5
    total = sum((x - 61 / 12) ** 2 for x in [*first, *second])
    judges = 6 * ((46 / 6 - 61 / 12) ** 2 + (15 / 6 - 61 / 12) ** 2)
    error = (total - 5 * between - judges) / 5
    expected = (between - error) / (between + error)
    assert icc_consistency(first, second) == pytest.approx(expected)
