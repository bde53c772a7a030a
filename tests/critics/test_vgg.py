import copy

import pytest
import timm
import torch
from safetensors.torch import save_file
from seeded import check_gradient, draw_faces

from norface.critics.base import CriticChoice, CriticsConfig, build_critics
from norface.errors import WeightsError
from norface.files import file_sha256


@pytest.fixture(scope="module")
def features():
    """timm's VGG16 with random weights, without the classifier's 120 million parameters."""
    torch.manual_seed(0)
    return timm.models.vgg.VGG(
        timm.models.vgg.cfgs["vgg16"], num_classes=0, mlp_ratio=1e-3
    ).features


@pytest.fixture(scope="module")
def critic(features, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    save_file({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    config = CriticsConfig(perceptual=CriticChoice(source="vgg", weights=path))
    return build_critics(config)["perceptual"]


def test_maps_are_those_of_timm_after_the_last_two_convolutions(critic, features):
    unit = torch.rand(1, 3, 224, 224)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        before, last = critic(unit * 2 - 1)
        expected = features[:28]((unit - mean) / std)
        torch.testing.assert_close(before, expected, rtol=1e-3, atol=1e-4)
        expected = features[28:30](expected)
    torch.testing.assert_close(last, expected, rtol=1e-3, atol=1e-4)
    assert last.shape == (1, 512, 14, 14)


def test_any_size_is_judged_and_only_the_picture_gets_gradient(critic):
    images = torch.rand(1, 3, 32, 32).requires_grad_()
    critic(images)[1].sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in critic.parameters())


@pytest.mark.slow
def test_gradient_in_the_picture_is_the_difference_of_the_answer(critic):
    judge = copy.deepcopy(critic).double()
    answer = lambda image: torch.cat([maps.flatten() for maps in judge(image)])
    # Thirteen layers of kinks: some lie within any step, and the slope is off by 0.3 %.
    check_gradient(answer, draw_faces(1), rel=1e-2)


@pytest.mark.slow
def test_bf16_autocast_keeps_the_maps_to_a_hundredth(critic):
    faces = draw_faces(1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = critic(faces)
    for found, expected in zip(half, critic(faces), strict=True):
        assert (found.float() - expected).norm() < 0.01 * expected.norm()


def test_the_card_holds_the_sum_of_the_file(critic):
    assert critic.card.sha256 == file_sha256(critic.card.source)


def test_other_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "short.safetensors")
    for name in ("text.pth", "short.safetensors"):
        choice = CriticChoice(source="vgg", weights=tmp_path / name)
        with pytest.raises(WeightsError, match="not the weights of VGG16") as caught:
            build_critics(CriticsConfig(perceptual=choice))
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="set its `weights`; save timm's"):
        build_critics(CriticsConfig(perceptual=CriticChoice(source="vgg")))
