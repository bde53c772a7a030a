"""Rendering: the same parameters, the same picture, and actions that move what they should."""

import concurrent.futures
import dataclasses
import multiprocessing

import cv2
import numpy as np
import pytest

from norface.data.labels import ACTION_UNITS
from norface.synthetic.corpus import (
    Camera,
    FaceParameters,
    Light,
    draw_parameters,
    normalized_truth,
    render,
    render_batch,
)
from norface.synthetic.identity import SKIN_TONES, draw_identity
from norface.synthetic.landmarks import close_lips

PERSON = 200_016
BROWS, RIGHT_BROW, EYES = slice(17, 27), slice(22, 27), slice(36, 48)


def show(units: dict[int, float] | None = None, **other) -> np.ndarray:
    """(68, 2): landmarks of a frontal face; y grows downwards."""
    return render(FaceParameters(PERSON, units or {}, **other), 32).landmarks


def render_bytes(parameters: FaceParameters) -> bytes:
    return render(parameters, 64).pixels.tobytes()


def test_the_same_parameters_give_the_same_pixels_in_threads_and_other_processes():
    drawn = [draw_parameters("critics", number, 3) for number in range(4)]
    here = [render_bytes(parameters) for parameters in drawn]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert list(threads.map(render_bytes, drawn)) == here
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as processes:
        assert processes.submit(render_bytes, drawn[0]).result() == here[0]


def test_a_batch_is_its_pictures_one_by_one():
    drawn = [draw_parameters("folds", 1, frame) for frame in range(3)]
    batch = render_batch(drawn, 48)
    assert batch.shape == (3, 48, 48, 3) and batch.dtype == np.uint8
    assert all(np.array_equal(batch[i], render(drawn[i], 48).pixels) for i in range(3))


@pytest.mark.parametrize("subject", [0, 5, 17])
def test_a_small_picture_is_about_the_large_one_with_areas_averaged(subject):
    drawn = draw_parameters("folds", subject, 1)
    drawn = dataclasses.replace(drawn, camera=dataclasses.replace(drawn.camera, noise=0.0))
    small, large = render(drawn, 64), render(drawn, 256)
    averaged = large.pixels.astype(float).reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(averaged - small.pixels).mean() < 3
    assert np.allclose(small.landmarks, large.landmarks, atol=0.01)


def test_a_unit_of_intensity_zero_changes_nothing():
    silent = FaceParameters(
        PERSON, dict.fromkeys(ACTION_UNITS, 0.0), dict.fromkeys(ACTION_UNITS, 0.2)
    )
    assert render_bytes(silent) == render_bytes(FaceParameters(PERSON))


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_every_unit_at_three_changes_a_picture_of_64_pixels(unit):
    changed = []
    for person in range(200_000, 200_008):
        still = render(FaceParameters(person), 64).pixels.astype(int)
        acting = render(FaceParameters(person, {unit: 3.0}), 64).pixels.astype(int)
        changed.append((np.abs(acting - still).max(-1) > 20).sum())
    assert np.mean(changed) >= 12


def mouth_width(p):
    return p[54, 0] - p[48, 0]


def corner_height(p):
    return p[51, 1] - (p[48, 1] + p[54, 1]) / 2


def lips_apart(p):
    return p[66, 1] - p[62, 1]


def eye_opening(p):
    return (p[41, 1] + p[40, 1] - p[37, 1] - p[38, 1]) / 2


def in_eye_distances(p):
    """Landmarks from the middle between the eyes, in units of the distance between them."""
    left, right = p[36:42].mean(0), p[42:48].mean(0)
    return (p - (left + right) / 2) / np.linalg.norm(right - left)


def brow(p, first, second):
    return p[36:48, 1].mean() - (p[first, 1] + p[second, 1]) / 2


MOVES = {
    (1, "inner brows rise"): lambda p: brow(p, 21, 22),
    (2, "outer brows rise"): lambda p: brow(p, 18, 25),
    (4, "brows fall"): lambda p: -brow(p, 20, 23),
    (4, "brows gather"): lambda p: p[21, 0] - p[22, 0],
    (5, "eyes open"): eye_opening,
    (7, "eyes narrow"): lambda p: -eye_opening(p),
    (6, "eyes narrow"): lambda p: -eye_opening(p),
    (9, "wings of the nose rise"): lambda p: p[27, 1] - (p[31, 1] + p[35, 1]) / 2,
    (10, "upper lip rises"): lambda p: p[27, 1] - (p[61, 1] + p[63, 1]) / 2,
    (12, "corners rise"): corner_height,
    (12, "mouth widens"): mouth_width,
    (15, "corners fall"): lambda p: -corner_height(p),
    (17, "lower lip rises"): lambda p: p[33, 1] - p[57, 1],
    (20, "mouth widens"): mouth_width,
    (23, "mouth narrows"): lambda p: -mouth_width(p),
    (24, "lips thin"): lambda p: p[51, 1] - p[57, 1],
    (25, "lips part"): lips_apart,
    (26, "lips part"): lips_apart,
    (26, "chin falls"): lambda p: p[8, 1],
}


@pytest.mark.parametrize("move", MOVES, ids=lambda move: f"AU{move[0]} {move[1]}")
def test_a_unit_moves_its_landmarks_further_the_stronger_it_is(move):
    measured = [MOVES[move](show({move[0]: level})) for level in (0.0, 1.5, 3.0, 5.0)]
    assert np.all(np.diff(measured) > 0.0008), measured


@pytest.mark.parametrize("unit", [1, 2, 4])
def test_brow_units_leave_the_mouth_alone(unit):
    still, acting = show(), show({unit: 5.0})
    assert np.abs(acting[48:] - still[48:]).max() < 0.012
    assert np.abs(acting[BROWS] - still[BROWS]).max() > 0.03


@pytest.mark.parametrize("unit", [12, 15, 20, 23, 25, 26])
def test_mouth_units_leave_the_brows_alone(unit):
    still, acting = show(), show({unit: 5.0})
    # Corners that fall or a dropped jaw shrink the aligned face, so the eyes are the measure.
    assert np.abs(in_eye_distances(acting)[BROWS] - in_eye_distances(still)[BROWS]).max() < 0.012
    assert np.abs(acting[48:] - still[48:]).max() > 0.02


def test_a_smile_moves_the_corners_of_the_mouth_up_and_out():
    still, smile = in_eye_distances(show()), in_eye_distances(show({12: 5.0}))
    moved = smile - still
    for corner, outward in ((48, -1), (54, 1)):
        # A wide smile: a tenth of the distance between the eyes and more, both ways.
        assert outward * moved[corner, 0] > 0.1 and moved[corner, 1] < -0.1
    assert abs(moved[57, 1]) < 0.1 and corner_height(smile) > corner_height(still) + 0.1


def test_frowning_corners_fall_and_stretched_ones_do_not():
    still = in_eye_distances(show())
    frown, stretch = (in_eye_distances(show({unit: 5.0})) - still for unit in (15, 20))
    assert frown[[48, 54], 1].min() > 0.1
    assert np.abs(stretch[[48, 54], 1]).max() < 0.1
    assert stretch[54, 0] > 0.15 and stretch[48, 0] < -0.15


def test_brows_that_rise_and_gather_stand_higher_inside_than_gathering_alone():
    inner = lambda units: brow(show(units), 21, 22)
    assert inner({1: 4.0, 4: 4.0}) > inner({4: 4.0}) + 0.04
    assert inner({1: 4.0, 4: 4.0}) > inner({}) - 0.005


@pytest.mark.parametrize("action", [{}, {5: 5.0}, {7: 3.0, 12: 5.0}])
def test_shut_eyes_show_skin_and_lashes_where_the_open_ones_were(action):
    drawn = FaceParameters(PERSON, action)
    open_, shut = (render(dataclasses.replace(drawn, closed=c), 256) for c in (0.0, 1.0))
    assert np.abs(eye_opening(shut.landmarks)) < 0.002 < eye_opening(open_.landmarks)
    assert whites(open_) > 40 and whites(shut) < 4


def whites(face):
    """Pixels around the eyes that are less red than the skin between eyes and mouth."""
    red, _, blue = np.moveaxis(face.pixels.astype(float) + 1, -1, 0)
    skin = np.median((blue / red)[115:140, 70:186])
    places = np.round([256 * p for p in eyes_of(face)]).astype(int)
    boxes = [(blue / red)[y - 9 : y + 9, x - 18 : x + 18] for x, y in places]
    return int(sum((box > skin + 0.2).sum() for box in boxes))


def eyes_of(face):
    return face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0)


def test_the_inside_of_an_open_mouth_lies_within_its_landmarks():
    shut, open_ = (render(FaceParameters(PERSON, u), 256) for u in ({}, {25: 3.0, 26: 5.0}))
    outline = np.zeros((256, 256), np.uint8)
    cv2.fillPoly(outline, [np.round(open_.landmarks[60:68] * 256).astype(np.int32)], 1)
    dark = open_.pixels.max(-1) < 0.45 * np.median(open_.pixels[140:200, 90:166].max(-1))
    dark[:140] = dark[225:] = dark[:, :80] = dark[:, 176:] = False
    assert outline.sum() > 500 and dark[outline == 1].mean() > 0.35
    around = cv2.dilate(outline, np.ones((9, 9), np.uint8))
    assert dark[around == 1].sum() > 0.9 * dark.sum()
    assert (np.abs(open_.pixels.astype(int) - shut.pixels).max(-1)[outline == 1] > 20).mean() > 0.6


def test_every_shade_of_skin_is_as_likely_as_any_other():
    tones = np.array([draw_identity(seed).look.skin_g for seed in range(200_000, 200_400)])
    shades = (SKIN_TONES[:, 1] / 255) ** 2.2
    counts = np.histogram(tones, shades[[8, 6, 4, 2, 0]])[0]
    assert counts.min() > 70, counts


def test_a_darker_face_is_darker_in_the_picture_but_not_lost_in_it():
    light = Light(strength=0.5, ambient=0.35)
    shown = {}
    for seed in range(200_000, 200_040):
        face = render(FaceParameters(seed, light=light), 64)
        cheek = np.round(64 * (face.landmarks[30] + [[-0.14, 0.02], [0.14, 0.02]])).astype(int)
        shown[draw_identity(seed).look.skin_g] = face.pixels[cheek[:, 1], cheek[:, 0]].mean()
    skins, values = np.array(list(shown.items())).T
    assert np.corrcoef(np.log(skins), values)[0, 1] > 0.8
    assert values.min() > 30 and values.max() < 245


def test_unequal_halves_differ_in_the_direction_of_the_asymmetry():
    still = show()
    right = show({2: 4.0}, asymmetry={2: 0.3})
    left = show({2: 4.0}, asymmetry={2: -0.3})
    rise = lambda p, point: still[point, 1] - p[point, 1]
    assert rise(right, 25) > rise(right, 18) + 0.005
    assert rise(left, 18) > rise(left, 25) + 0.005


def test_resting_faces_differ_as_much_as_actions_do():
    people = [render(FaceParameters(seed), 32).landmarks for seed in range(200_000, 200_040)]
    action = corner_height(show({12: 2.0})) - corner_height(show())
    assert np.std([corner_height(p) for p in people]) > 0.5 * action
    action = brow(show({1: 2.0}), 21, 22) - brow(show(), 21, 22)
    assert np.std([brow(p, 21, 22) for p in people]) > 0.5 * action


def test_yaw_turns_the_nose_and_pitch_lifts_it():
    still = show()
    assert show(pose=(25.0, 0.0, 0.0))[30, 0] > still[30, 0] + 0.05
    assert show(pose=(-25.0, 0.0, 0.0))[30, 0] < still[30, 0] - 0.05
    nose = lambda p: p[30, 1] - p[36:48, 1].mean()
    assert nose(show(pose=(0.0, 15.0, 0.0))) < nose(still) - 0.02


def test_eyes_come_to_the_template_and_misalignment_is_what_it_says():
    aligned = show(pose=(20.0, -5.0, 8.0))
    eyes = np.stack([aligned[36:42].mean(0), aligned[42:48].mean(0)])
    assert np.allclose(eyes, [[0.36, 0.37], [0.64, 0.37]], atol=0.02)
    moved = show(camera=Camera(shift_x=0.02, shift_y=-0.01))
    assert np.allclose(moved - show(), [0.02, -0.01], atol=1e-4)
    face = render(FaceParameters(PERSON, camera=Camera(roll=4.0)), 32)
    left, right = face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0)
    tilt = np.degrees(np.arctan2(*(right - left)[::-1]))
    assert tilt == pytest.approx(face.pose[2], abs=1.0) and face.pose[2] == pytest.approx(4, abs=1)


def test_landmarks_are_ordered_from_left_to_right_and_lie_on_the_face():
    for seed in range(200_000, 200_012):
        p = render(FaceParameters(seed), 32).landmarks
        assert p.shape == (68, 2) and p.min() > 0 and p.max() < 1.02
        assert np.all(np.diff(p[17:27, 0]) > 0) and np.all(np.diff(p[31:36, 0]) > 0)
        assert np.all(np.diff(p[5:12, 0]) > 0) and p[8, 1] == p[:17, 1].max()
        assert np.all(p[37:39, 1] < p[40:42, 1].min())
        assert np.all(p[61:64, 1] <= p[67:64:-1, 1])


def test_crossed_lips_meet_half_way_and_open_lips_stay():
    marks = np.zeros((68, 2))
    marks[61:64, 1], marks[67:64:-1, 1] = [0.70, 0.72, 0.60], [0.68, 0.80, 0.60]
    close_lips(marks)
    np.testing.assert_allclose(marks[61:64, 1], [0.69, 0.72, 0.60])
    np.testing.assert_allclose(marks[67:64:-1, 1], [0.69, 0.80, 0.60])


def test_the_truth_of_a_target_is_its_own_picture_when_it_does_the_same():
    target = draw_parameters("folds", 3, 0)
    assert normalized_truth(target, target) == target
    twin = dataclasses.replace(
        draw_parameters("folds", 9, 4), intensity=target.intensity, asymmetry=target.asymmetry
    )
    assert render_bytes(normalized_truth(twin, target)) == render_bytes(target)


def test_a_truth_keeps_the_action_and_takes_all_else_from_the_target():
    original, target = draw_parameters("folds", 9, 4), draw_parameters("folds", 3, 0)
    truth = normalized_truth(original, target)
    assert (truth.intensity, truth.asymmetry) == (original.intensity, original.asymmetry)
    for name in ("identity_seed", "pose", "gaze", "light", "camera", "background_seed"):
        assert getattr(truth, name) == getattr(target, name)
    assert render(truth, 32).pose[:2] == render(target, 32).pose[:2]
