"""Sums, draws and figures of them, against plain formulas and scipy."""

import tracemalloc

import numpy as np
import pytest
from scipy import linalg, stats

from norface.evaluation.identity_probe import probe_identity
from norface.evaluation.normalization import spread_cut as plain_spread_cut
from norface.evaluation.paired_tests import compare_pairs, paired_test
from norface.evaluation.resampling import (
    PERSONS_AT_ONCE,
    bootstrap_frechet,
    bootstrap_sums,
    draw_counts,
    draw_moments,
    frechet,
    mean_pearson,
    mean_terms,
    pearson_terms,
    ratio,
    spread_cut,
    spread_terms,
    sum_by_person,
    sum_moments,
)

RNG = np.random.default_rng(3)


def test_mean_of_sums_leaves_out_what_is_unknown():
    values, person = np.array([1.0, 3.0, np.nan, 8.0]), np.array([0, 0, 1, 1])
    sums = sum_by_person(mean_terms(values), person)
    np.testing.assert_allclose(sums, [[4, 2], [8, 1]])
    interval = bootstrap_sums(sums, ratio, np.array([[2.0, 0.0], [0.0, 2.0]]))
    # Drawn twice, the first person's mean is 2 and the second's 8; the percentiles lie between.
    assert interval.value == 4
    assert (interval.low, interval.high) == pytest.approx((2.15, 7.85))


def test_every_draw_has_as_many_persons_as_there_are_and_the_seed_decides():
    counts = draw_counts(7, draws=50, seed=1)
    assert (counts.sum(axis=1) == 7).all() and counts.std() > 0
    np.testing.assert_array_equal(counts, draw_counts(7, draws=50, seed=1))


def test_pearson_of_sums_is_numpys_and_zero_without_variation():
    first, second = RNG.normal(size=(40, 2)), RNG.normal(size=(40, 2))
    second[:, 1] = 0.3
    first[3, 0] = np.nan
    sums = pearson_terms(first, second).sum(axis=0)
    known = ~np.isnan(first[:, 0])
    expected = np.corrcoef(first[known, 0], second[known, 0])[0, 1]
    assert mean_pearson(sums) == pytest.approx(expected / 2)


def test_spread_cut_of_sums_is_that_of_the_values():
    before, after = RNG.normal(size=(30, 1)), RNG.normal(size=(30, 1)) / 4
    found = spread_cut(spread_terms(before, after).sum(axis=0))
    assert found == pytest.approx(plain_spread_cut(before, after))


def test_frechet_distance_is_that_of_scipys_matrix_root_and_zero_of_equals():
    first, second = RNG.normal(size=(200, 5)), 2 * RNG.normal(size=(200, 5)) + 1
    sums = [sum_moments(one) for one in (first, second)]
    one, two = np.cov(first.T, bias=True), np.cov(second.T, bias=True)
    apart = ((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum()
    expected = apart + np.trace(one + two - 2 * np.real(linalg.sqrtm(one @ two)))
    assert frechet(*sums) == pytest.approx(expected)
    assert frechet(sums[0], sums[0]) == pytest.approx(0, abs=1e-9)
    person = np.arange(200) % 20
    interval = bootstrap_frechet(first, second, person, draw_counts(20, draws=40, seed=0))
    assert interval.value == pytest.approx(expected)
    assert interval.low < interval.value < interval.high


def test_moments_of_a_draw_are_those_of_the_faces_that_it_holds():
    # More persons than are added up at once, the last of them without a face.
    persons = PERSONS_AT_ONCE + 9
    features, person = RNG.normal(size=(150, 4)), RNG.integers(0, persons - 1, 150)
    counts = draw_counts(persons, draws=3, seed=0)
    total, drawn = draw_moments(features, person, counts)
    np.testing.assert_allclose(total, sum_moments(features))
    for number, found in enumerate(drawn):
        repeated = np.repeat(features, counts[number][person].astype(int), axis=0)
        np.testing.assert_allclose(found, sum_moments(repeated), atol=1e-9)


def test_moments_of_many_faces_take_no_square_of_the_features_for_each():
    faces, width = 4000, 96
    features, person = RNG.normal(size=(faces, width)).astype(np.float32), np.arange(faces) % 80
    counts = draw_counts(80, draws=20, seed=0)
    tracemalloc.start()
    try:
        bootstrap_frechet(features, features, person, counts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A square of the features for each face would be 295 MB.
    assert peak < 40e6


def test_the_probe_recognises_who_stands_out_and_nobody_in_noise():
    person = np.repeat(np.arange(12), 20)
    noise = RNG.normal(size=(240, 6))
    found = probe_identity(noise, person)
    assert found.chance == pytest.approx(1 / 12)
    assert np.nanmean(found.rank1) < 0.2
    assert np.nanmean(found.auc) == pytest.approx(0.5, abs=0.08)
    centres = 4 * RNG.normal(size=(12, 6))
    clear = probe_identity(noise + centres[person], person)
    assert np.nanmean(clear.rank1) > 0.95 and np.nanmean(clear.auc) > 0.99


def test_pictures_that_are_all_alike_are_guessed_and_single_ones_are_not_asked():
    person = np.array([0, 0, 1, 1, 2])
    found = probe_identity(np.ones((5, 3)), person)
    np.testing.assert_allclose(found.rank1, [0.5, 0.5, 0.5, 0.5, np.nan])
    np.testing.assert_allclose(found.auc, [0.5, 0.5, 0.5, 0.5, np.nan])
    assert np.isnan(probe_identity(np.ones((2, 3)), np.array([0, 1])).chance)


def test_paired_test_of_persons_means_is_scipys():
    person = np.repeat(np.arange(6), 3)
    one, two = RNG.normal(size=18), RNG.normal(size=18) + 0.5
    tests = compare_pairs({"a": {"m": one}, "b": {"m": two, "other": two}}, person, ["a", "b"])
    means = [values.reshape(6, 3).mean(axis=1) for values in (one, two)]
    expected = stats.ttest_rel(means[1], means[0])
    assert len(tests) == 1 and tests[0]["df"] == 5
    assert (tests[0]["t"], tests[0]["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert tests[0]["difference"] == pytest.approx((means[1] - means[0]).mean())
    assert paired_test(np.zeros(3), np.zeros(3))["p"] == 1
    assert paired_test(np.ones(3), np.zeros(3))["t"] == -np.inf
    assert np.isnan(paired_test(np.array([1.0, np.nan]), np.ones(2))["p"])
