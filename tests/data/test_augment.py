import cv2
import numpy as np
import pytest

from norface.data.augment import AugmentConfig, draw_augmentation
from norface.training.seeding import sample_rng

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
PICTURE = cv2.GaussianBlur(PICTURE, (0, 0), 2)
ALL = AugmentConfig(
    flip=0.5, shift=0.1, scale=0.1, rotate=20, brightness=0.2, contrast=0.2, saturation=0.5,
    blur=0.5, noise=0.05, cutout=0.5,
)  # fmt: skip


def draw(position, **settings):
    return draw_augmentation(AugmentConfig(**settings), sample_rng(0, 0, position, "augment"))


def test_the_defaults_change_nothing():
    np.testing.assert_array_equal(draw(0).apply(PICTURE), PICTURE)


def test_a_sample_is_changed_alike_every_time_and_others_otherwise():
    changed = [
        draw_augmentation(ALL, sample_rng(0, 0, position, "augment")).apply(PICTURE)
        for position in (1, 1, 2)
    ]
    np.testing.assert_array_equal(changed[0], changed[1])
    assert (changed[0] != changed[2]).any()
    assert changed[0].dtype == np.uint8 and changed[0].shape == PICTURE.shape


def test_the_input_is_never_written_to():
    before = PICTURE.copy()
    for position in range(20):
        draw_augmentation(ALL, sample_rng(0, 0, position, "augment")).apply(PICTURE)
    np.testing.assert_array_equal(PICTURE, before)


def test_flipping_mirrors_exactly_and_half_of_the_time():
    np.testing.assert_array_equal(draw(0, flip=1).apply(PICTURE), PICTURE[:, ::-1])
    assert 70 < sum(draw(position, flip=0.5).mirrored for position in range(200)) < 130


def test_one_setting_does_not_shift_the_draws_of_another():
    for position in range(5):
        assert draw(position, flip=0.5).mirrored == draw(position, flip=0.5, noise=0.1).mirrored
        assert draw(position, rotate=5).gain == 1
        plain, more = draw(position, shift=0.1), draw(position, shift=0.1, cutout=1, blur=1)
        np.testing.assert_array_equal(plain.matrix, more.matrix)


@pytest.mark.parametrize("settings", [{"flip": 1}, {"shift": 0.2}, {"rotate": 30}, {"scale": 0.3}])
def test_points_follow_the_picture(settings):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[20:23, 35:38] = 255
    point = np.array([[36.5 / 64, 21.5 / 64]])
    for position in range(10):
        change = draw(position, **settings)
        moved = change.apply(picture).astype(float)[..., 0]
        y, x = np.mgrid[:64, :64] + 0.5
        centre = np.array([(moved * x).sum(), (moved * y).sum()]) / moved.sum() / 64
        np.testing.assert_allclose(change.move(point)[0], centre, atol=0.01)


def test_a_mirrored_and_turned_picture_moves_by_the_same_matrix_as_its_points():
    change = draw(3, flip=1, rotate=20, shift=0.1, scale=0.1)
    assert change.mirrored and np.linalg.det(change.matrix[:, :2]) < 0


def test_shifts_turns_and_sizes_stay_in_their_range():
    for position in range(200):
        matrix = draw(position, shift=0.1).matrix
        assert np.abs(matrix[:, 2]).max() <= 0.1
        turn = draw(position, rotate=10).matrix
        assert abs(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0]))) <= 10
        assert 1 / 1.2 <= np.sqrt(np.linalg.det(draw(position, scale=0.2).matrix[:, :2])) <= 1.2


def test_contrast_and_brightness_on_worked_values():
    change = draw(4, brightness=0.2, contrast=0.5)
    grey = np.full((4, 4, 3), 100, np.uint8)
    expected = round((100 - 127.5) * change.gain + 127.5 + change.offset)
    assert (change.apply(grey) == expected).all()
    assert abs(change.offset) <= 51 and 1 / 1.5 <= change.gain <= 1.5


def test_saturation_keeps_the_luminance():
    weights = np.array([0.299, 0.587, 0.114])
    change = draw(7, saturation=1)
    picture = np.full((4, 4, 3), (120, 130, 140), np.uint8)
    changed = change.apply(picture)
    assert abs(changed[0, 0] @ weights - picture[0, 0] @ weights) < 1
    assert np.ptp(changed[0, 0].astype(int)) == pytest.approx(20 * change.saturation, abs=1.01)


def test_noise_has_the_spread_that_was_drawn():
    change = draw(2, noise=0.1)
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert change.apply(grey).std() == pytest.approx(change.noise, rel=0.05)
    assert 0 < change.noise <= 25.5


def test_cutout_leaves_a_grey_square_of_the_drawn_size_and_the_rest_alone():
    for position in range(10):
        change = draw(position, cutout=1, cutout_side=0.4)
        changed = change.apply(np.zeros((100, 100, 3), np.uint8))
        share = (changed == 128).all(-1).mean()
        assert set(np.unique(changed)) == {0, 128}
        assert 0 < share <= 0.41**2
        assert 0.2 <= change.hole[2] <= 0.4


def test_blur_lowers_detail_and_keeps_the_mean():
    change = draw(1, blur=1, blur_sigma=0.1)
    blurred = change.apply(PICTURE)
    assert blurred.std() < PICTURE.std()
    assert blurred.mean() == pytest.approx(PICTURE.mean(), abs=2)
