"""The template, the fit and the warp."""

import numpy as np
import pytest

from norface.data.alignment import (
    TEMPLATE,
    align_face,
    alignment_matrix,
    fit_similarity,
    move_points,
    template_points,
    warp_picture,
)
from norface.errors import CorpusError


def similarity(angle_deg, scale, shift):
    turn = np.deg2rad(angle_deg)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.hstack([linear, np.array(shift, float)[:, None]])


@pytest.mark.parametrize("angle_deg", [0, 30, 90, 179, -120])
def test_the_fit_finds_the_similarity_that_made_the_points(angle_deg):
    truth = similarity(angle_deg, 2.5, (10, -3))
    found = fit_similarity(TEMPLATE, move_points(truth, TEMPLATE))
    np.testing.assert_allclose(found, truth, atol=1e-12)


def test_the_fit_is_the_least_squares_one_of_a_linear_solver():
    random = np.random.default_rng(0)
    source, target = random.normal(size=(5, 2)), random.normal(size=(5, 2))
    # x' = a x - b y + c, y' = b x + a y + d, solved as a plain linear system.
    (x, y), zeros, ones = source.T, np.zeros(5), np.ones(5)
    system = np.vstack([np.c_[x, -y, ones, zeros], np.c_[y, x, zeros, ones]])
    a, b, c, d = np.linalg.lstsq(system, target.T.ravel(), rcond=None)[0]
    np.testing.assert_allclose(fit_similarity(source, target), [[a, -b, c], [b, a, d]], atol=1e-12)


def test_a_mirrored_face_is_not_mirrored_back():
    linear = fit_similarity(TEMPLATE * [-1, 1], TEMPLATE)[:, :2]
    assert np.linalg.det(linear) > 0


def test_a_smile_moves_the_eyes_less_than_a_fiftieth_of_what_it_moves_the_mouth():
    points = template_points(256)
    points[3:] += [[-10, -12], [10, -12]]
    aligned = move_points(alignment_matrix(points, 256), points)
    assert np.abs(aligned[:2] - template_points(256)[:2]).max() < 12 * 0.1


def test_coinciding_points_are_refused_in_one_line():
    with pytest.raises(CorpusError, match="coincide"):
        fit_similarity(np.ones((5, 2)), TEMPLATE)


@pytest.mark.parametrize("side", [64, 100, 256])
def test_points_of_a_turned_large_photograph_land_on_the_template(side):
    photograph = np.zeros((1200, 1600, 3), np.uint8)
    truth = similarity(37, 700, (800, 250))
    points = move_points(truth, TEMPLATE)
    rows, columns = np.mgrid[:1200, :1600]
    for channel, (x, y) in enumerate([points[0], points[1], points[4]]):
        photograph[..., channel] = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 800)
    aligned = align_face(photograph, points, side).astype(float)
    grid = np.stack(np.mgrid[:side, :side][::-1], -1)
    for channel, point in enumerate([0, 1, 4]):
        mass = aligned[..., channel, None]
        centre = (mass * grid).sum((0, 1)) / mass.sum()
        np.testing.assert_allclose(centre, template_points(side)[point], atol=0.15)


def test_shrinking_averages_instead_of_sampling():
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[:, ::2] = 255
    small = warp_picture(stripes, np.array([[0.1, 0, 0], [0, 0.1, 0]]), 80)
    assert np.ptp(small[10:-10, 10:-10].astype(int)) < 30


def test_an_aligned_picture_aligned_again_stays_as_it_is():
    random = np.random.default_rng(1)
    pixels = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(align_face(pixels, template_points(64), 64), pixels)
