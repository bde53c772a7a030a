"""Measures of a normalization, with worked values."""

import numpy as np
import pytest

from norface.evaluation.normalization import (
    average_persons,
    intensity_correlation,
    nearer_to_target,
    region_box,
    region_error,
    spread_cut,
)


def test_nearer_to_target_counts_faces_that_left_their_person():
    target = np.array([1.0, 0.0])
    source = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    normalized = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    assert nearer_to_target(normalized, source, target) == 0.5


def test_average_of_a_person_has_unit_length_and_is_shared():
    embedding = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = average_persons(embedding, np.array(["a", "a", "b"]))
    np.testing.assert_allclose(found, [[0.5**0.5] * 2, [0.5**0.5] * 2, [0.0, 1.0]])


def test_spread_cut_of_a_tenth_of_the_angles_is_ninety_percent():
    yaw = np.array([-20.0, 5.0, 30.0])
    assert spread_cut(yaw, yaw / 10 + 3) == pytest.approx(0.9)


def test_correlation_leaves_out_missing_truths_and_is_zero_for_a_constant_reading():
    truth = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [np.nan, 3.0]])
    found = np.array([[5.0, 1.0], [4.0, 1.0], [3.0, 1.0], [9.0, 1.0]])
    np.testing.assert_allclose(intensity_correlation(truth, found), [-1.0, 0.0])


def test_box_grows_by_a_tenth_on_each_edge():
    rows, columns = region_box(np.array([[0.2, 0.4], [0.7, 0.5]]), 100)
    # x: 0.2 - 0.05 .. 0.7 + 0.05; y: 0.4 - 0.01 .. 0.5 + 0.01.
    assert (columns.start, columns.stop) == (15, 75)
    assert (rows.start, rows.stop) == (39, 51)


def test_region_error_sees_mouth_and_brows_only():
    landmarks = np.full((68, 2), 0.5)
    landmarks[17:27] = np.linspace([0.25, 0.25], [0.75, 0.25], 10)
    landmarks[48:68] = np.linspace([0.4, 0.7], [0.6, 0.8], 20)
    truth = np.zeros((40, 40, 3), np.uint8)
    elsewhere = truth.copy()
    elsewhere[18:22] = 200
    assert region_error(elsewhere, truth, landmarks) == 0
    in_mouth = truth.copy()
    in_mouth[30, 20] = (1, 2, 3)
    assert region_error(in_mouth, truth, landmarks) == 6
