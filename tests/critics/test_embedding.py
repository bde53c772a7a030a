"""Expression embeddings: a file of ours, and a checkpoint of timm."""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file
from seeded import check_gradient, draw_faces

from norface.critics.base import CriticChoice, CriticsConfig, build_critics
from norface.errors import ConfigError, WeightsError
from norface.models.expression_embedding import EmbeddingConfig, build_embedding, save_embedding

NAME = "mobilenetv3_small_050"


def load(path, **changes):
    choice = CriticChoice(source="embedding", weights=path, **changes)
    return build_critics(CriticsConfig(expression=choice))["expression"]


@pytest.fixture
def own(tmp_path):
    config = EmbeddingConfig(length=8, channels=(4, 8, 8, 8), blocks=(0, 0, 1, 0), seed=3)
    network = build_embedding(config).eval()
    save_embedding(network, config, tmp_path / "critic.safetensors")
    return network, tmp_path / "critic.safetensors"


@pytest.fixture(scope="module")
def timm_network():
    torch.manual_seed(0)
    return timm.create_model(NAME, num_classes=16).eval()


def test_a_file_of_ours_answers_as_the_network_that_was_saved(own):
    network, path = own
    faces = draw_faces()
    critic = load(path)
    found = critic(faces)
    assert found.shape == (2, 8)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    # The file is in half precision.
    torch.testing.assert_close(found, network(faces), atol=2e-3, rtol=0)
    assert critic.card.licence == "that of the weights file" and len(critic.card.sha256) == 64


def test_a_checkpoint_of_timm_is_scaled_as_timm_says_and_has_unit_length(timm_network, tmp_path):
    save_file(timm_network.state_dict(), tmp_path / "dln.safetensors")
    critic = load(tmp_path / "dln.safetensors", architecture=NAME)
    unit = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        expected = timm_network((unit - mean) / std)
        found = critic(unit * 2 - 1)
    assert found.shape == (2, 16)
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_gradient_is_the_difference_of_the_answer(own):
    check_gradient(copy.deepcopy(load(own[1])).double(), draw_faces(1))


def test_bf16_autocast_hardly_turns_the_embedding(own):
    critic, faces = load(own[1]), draw_faces()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = critic(faces)
    assert half.dtype == torch.float32
    assert (half * critic(faces)).sum(1).min() > 0.99


def test_mistakes_are_one_line_that_says_what_to_do(own, timm_network, tmp_path):
    with pytest.raises(ConfigError, match="'mobilenetv3_smal' is no network of timm; near: mobile"):
        load(own[1], architecture="mobilenetv3_smal")
    with pytest.raises(WeightsError, match="no tensor classifier.weight"):
        load(own[1], architecture=NAME)
    torch.save(timm_network.state_dict(), tmp_path / "dln.pt")
    with pytest.raises(WeightsError, match="for a checkpoint of timm name its `architecture`"):
        load(tmp_path / "dln.pt")
    with pytest.raises(WeightsError, match="objective=triplet makes one"):
        load(None)
    choice = CriticChoice(source="mediapipe", architecture=NAME)
    with pytest.raises(
        ConfigError, match="critics.expression.architecture: found .* set it to nul"
    ):
        build_critics(CriticsConfig(expression=choice))
