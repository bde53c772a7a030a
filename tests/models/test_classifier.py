"""F_cla: streams, ablations, size, and its file."""

from __future__ import annotations

import pytest
import torch

from norface.errors import WeightsError
from norface.models.classifier import (
    Classifier,
    ClassifierConfig,
    load_classifier,
    save_classifier,
)
from norface.models.convolutional import ConvConfig, ConvExtractor
from norface.models.moe import MoEConfig
from norface.models.vit import VitConfig

SMALL = ClassifierConfig(
    extractor="conv", conv=ConvConfig(side=16, channels=[8, 8], width=16), moe=MoEConfig()
)


def make_classifier(config: ClassifierConfig = SMALL, **shape) -> Classifier:
    torch.manual_seed(0)
    return Classifier(config, **{"outputs": 5, **shape})


def test_streams_share_one_extractor_and_have_their_own_input_block():
    one, three = make_classifier(), make_classifier(image_streams=3)
    count = lambda module: sum(p.numel() for p in module.parameters())
    assert count(one.extractor) == count(three.extractor)
    assert len(three.input_moe) == 3
    pictures = [torch.randn(4, 3, 16, 16) for _ in range(3)]
    logits, statistics = three(pictures)
    assert logits.shape == (4, 5)
    assert len(statistics) == 4
    assert three.router_shape == (4, 4)


def test_without_input_and_output_blocks_the_head_reads_the_extractor():
    config = SMALL.model_copy(update={"input_moe": False, "output_moe": False})
    model = make_classifier(config)
    picture = torch.randn(2, 3, 16, 16)
    logits, statistics = model([picture])
    assert statistics == []
    torch.testing.assert_close(logits, model.head(model.extractor(picture)))


def test_zero_experts_has_no_router_and_draws_no_noise():
    model = make_classifier(SMALL.model_copy(update={"moe": MoEConfig(experts=0)}))
    assert model.router_shape == (0, 0)
    logits, statistics = model([torch.randn(2, 3, 16, 16)], None, torch.zeros(2, 0, 0))
    assert logits.shape == (2, 5)
    assert statistics == []


def test_noise_moves_the_routes_of_training_only():
    model = make_classifier(image_streams=2)
    pictures = [torch.randn(8, 3, 16, 16) for _ in range(2)]
    quiet, _ = model(pictures)
    noisy, _ = model(pictures, None, torch.randn(8, *model.router_shape))
    assert torch.equal(quiet, model(pictures)[0])
    assert not torch.allclose(quiet, noisy)


def test_a_feature_vector_stands_in_for_a_normalized_picture():
    model = make_classifier(feature_width=7)
    features = torch.randn(40, 7) * 9 + 3
    model.adapter.fit(features)
    assert len(model.input_moe) == 2
    torch.testing.assert_close(model.adapter.mean, features.mean(0))
    picture = torch.randn(40, 3, 16, 16)
    one, _ = model([picture], features)
    other, _ = model([picture], features.flip(0))
    assert one.shape == (40, 5)
    assert not torch.allclose(one, other)


def test_a_constant_feature_does_not_divide_by_zero():
    model = make_classifier(feature_width=2)
    model.adapter.fit(torch.ones(5, 2))
    assert torch.isfinite(model([torch.randn(5, 3, 16, 16)], torch.ones(5, 2))[0]).all()


def test_the_transformer_extractor_pools_its_tokens():
    vit = VitConfig(side=16, patch=8, width=24, depth=1, heads=2)
    model = make_classifier(ClassifierConfig(extractor="vit", vit=vit))
    assert model([torch.randn(3, 3, 16, 16)])[0].shape == (3, 5)
    assert model.config.side == 16


def test_the_small_network_is_as_small_as_it_says():
    from torch.utils.flop_counter import FlopCounterMode

    network = ConvExtractor(ConvConfig())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    assert 5e6 < counter.get_total_flops() < 30e6


def test_a_classifier_comes_back_from_its_file(tmp_path):
    model = make_classifier(image_streams=2).eval()
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, model, model.state_dict(), {"task": "au", "targets": ["AU1"]})
    loaded, about = load_classifier(path)
    pictures = [torch.randn(3, 3, 16, 16) for _ in range(2)]
    assert torch.equal(model(pictures)[0], loaded(pictures)[0])
    assert about["task"] == "au"
    assert about["targets"] == ["AU1"]


def test_what_is_no_classifier_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "classifier.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="not a readable classifier file"):
        load_classifier(path)
