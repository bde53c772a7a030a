import hashlib

import pytest
import torch
from torch import nn

from norface.critics import base
from norface.critics.base import (
    KINDS,
    Card,
    Critic,
    CriticChoice,
    CriticsConfig,
    build_critics,
    find_weights,
    read_features,
)
from norface.errors import ConfigError, WeightsError
from norface.images import resize_images

CARD = Card(name="test", source="this file", licence="Apache-2.0", input_side=8)


class CountingTrunk(nn.Module):
    """Counts how often it runs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return self.layer(resize_images(images, 8)).mean((2, 3))


class ReadsTrunk(Critic):
    """Scales what its trunk saw."""

    def __init__(self, kind, trunk, factor):
        super().__init__(kind, CARD, trunk)
        self.factor = factor
        self.dropout = nn.Dropout(0.5)

    def read(self, seen):
        return self.dropout(seen) * self.factor


def build_pair() -> tuple[CountingTrunk, dict[str, Critic]]:
    trunk = CountingTrunk()
    critics = {
        "expression": ReadsTrunk("expression", trunk, 1.0).freeze(),
        "eyebrow": ReadsTrunk("eyebrow", trunk, 2.0).freeze(),
    }
    return trunk, critics


def test_critics_that_share_a_trunk_run_it_once():
    trunk, critics = build_pair()
    features = read_features(critics, torch.randn(2, 3, 16, 16))
    assert trunk.calls == 1
    torch.testing.assert_close(features["eyebrow"], 2 * features["expression"])


def test_only_wanted_kinds_are_read_and_missing_ones_are_left_out():
    _, critics = build_pair()
    found = read_features(critics, torch.zeros(1, 3, 8, 8), ["eyebrow", "identity"])
    assert list(found) == ["eyebrow"]


def test_critic_never_leaves_evaluation_mode_nor_takes_gradients():
    _, critics = build_pair()
    around = nn.ModuleDict(critics).train()
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    features = read_features(critics, images)
    features["expression"].square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in around.parameters())
    assert not any(module.training for critic in critics.values() for module in critic.modules())


def test_resizing_by_a_whole_factor_averages_blocks():
    images = torch.arange(16.0).view(1, 1, 4, 4)
    expected = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])
    torch.testing.assert_close(resize_images(images, 2), expected)


def test_source_without_that_kind_lists_the_valid_ones():
    config = CriticsConfig(identity=CriticChoice(source="mediapipe"))
    with pytest.raises(ConfigError, match="no identity critic; valid: synthetic"):
        build_critics(config)


def test_no_critic_is_built_without_being_asked_for():
    assert build_critics(CriticsConfig()) == {}
    assert list(CriticsConfig.model_fields) == sorted(KINDS, key=KINDS.index)


def test_missing_weights_say_where_to_get_them(tmp_path):
    choice = CriticChoice(source="vgg", weights=tmp_path / "vgg16.pth")
    with pytest.raises(WeightsError, match="vgg16.pth: no weights.*get it from timm") as caught:
        find_weights(choice, advice="get it from timm")
    assert "\n" not in str(caught.value)


def test_weights_with_another_sum_are_refused(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    right = hashlib.sha256(b"abc").hexdigest()
    assert find_weights(CriticChoice(weights=path, sha256=right)) == path
    with pytest.raises(WeightsError, match="expected 000000000000"):
        find_weights(CriticChoice(weights=path, sha256="0" * 64))


def test_packaged_weights_must_be_listed_and_unchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "PACKAGED", tmp_path)
    (tmp_path / "net.safetensors").write_bytes(b"abc")
    with pytest.raises(WeightsError, match="not listed"):
        find_weights(CriticChoice(), "net.safetensors")
    digest = hashlib.sha256(b"abc").hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  net.safetensors\n")
    assert find_weights(CriticChoice(), "net.safetensors") == tmp_path / "net.safetensors"
    (tmp_path / "net.safetensors").write_bytes(b"abd")
    with pytest.raises(WeightsError, match="sha256"):
        find_weights(CriticChoice(), "net.safetensors")
