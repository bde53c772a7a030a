"""Brow coefficients of a network given by path."""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file
from seeded import check_gradient, draw_faces

from norface.critics.base import CriticChoice, CriticsConfig, build_critics
from norface.errors import ConfigError, WeightsError
from norface.losses.eyebrow import eyebrow_loss

NAME = "mobilenetv3_small_050"


def load(path, **changes):
    choice = CriticChoice(**{"source": "coefficients", "architecture": NAME, "weights": path}
                          | changes)  # fmt: skip
    return build_critics(CriticsConfig(eyebrow=choice))["eyebrow"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=6).eval()


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("3dmm") / "3dmm.safetensors"
    save_file(network.state_dict(), path)
    return path


def test_the_chosen_outputs_are_read_as_they_are(network, path):
    critic = load(path, coefficients=[4, 1])
    unit = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        expected = network((unit - mean) / std)
        found = critic(unit * 2 - 1)
        every = load(path)(unit * 2 - 1)
    # Not of unit length: how far a brow is raised is what counts.
    torch.testing.assert_close(found, expected[:, [4, 1]], atol=1e-4, rtol=0)
    torch.testing.assert_close(every, expected, atol=1e-4, rtol=0)
    apart = (expected[0, [4, 1]] - expected[1, [4, 1]]).square().sum()
    torch.testing.assert_close(eyebrow_loss(found[:1], found[1:]), apart, atol=1e-5, rtol=1e-3)
    assert "2 of 6 outputs" in critic.card.name and len(critic.card.sha256) == 64


def test_gradient_is_the_difference_of_the_answer(path):
    check_gradient(copy.deepcopy(load(path, coefficients=[2])).double(), draw_faces(1))


def test_bf16_autocast_keeps_coefficients(path):
    critic, faces = load(path), draw_faces()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = critic(faces)
    expected = critic(faces)
    assert half.dtype == torch.float32
    assert (half - expected).norm() < 0.05 * expected.norm()


def test_mistakes_are_one_line_that_says_what_to_do(path, tmp_path):
    with pytest.raises(ConfigError, match=r"found \[1, 6\]; .* 6 outputs: name some of 0 to 5"):
        load(path, coefficients=[1, 6])
    with pytest.raises(ConfigError, match=r"coefficients: found \[2, 2\]"):
        load(path, coefficients=[2, 2])
    with pytest.raises(ConfigError, match="architecture: source=coefficients needs timm's name"):
        load(path, architecture=None)
    with pytest.raises(WeightsError, match="critics.eyebrow: .*gone.* or set losses.eye=null"):
        load(tmp_path / "gone.safetensors")
    with pytest.raises(ConfigError, match="coefficients: found .*only source=coefficients takes"):
        load(path, source="mediapipe", architecture=None, coefficients=[1])
