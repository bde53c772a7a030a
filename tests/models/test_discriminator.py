import torch
from torch import nn

from norface.models.discriminator import Discriminator, DiscriminatorConfig


def test_one_score_a_patch():
    model = Discriminator(DiscriminatorConfig(channels=[8, 8, 16]))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 1, 4, 4)


def test_scores_of_a_picture_do_not_depend_on_its_neighbours_in_the_batch():
    torch.manual_seed(0)
    model = Discriminator(DiscriminatorConfig(channels=[8, 8])).eval()
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(model(images)[:1], model(images[:1]))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    torch.manual_seed(0)
    model = Discriminator(DiscriminatorConfig(channels=[8, 8])).train()
    for _ in range(100):
        model(torch.randn(1, 3, 8, 8))
    largest = torch.linalg.svdvals(model.stem.weight.detach().flatten(1)).max()
    torch.testing.assert_close(largest, torch.tensor(1.0), rtol=1e-3, atol=0)


def test_evaluation_mode_leaves_every_buffer_alone():
    model = Discriminator(DiscriminatorConfig(channels=[8, 8])).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(1, 3, 8, 8))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_with_condition_pair_a_score_depends_on_the_target_too():
    torch.manual_seed(0)
    model = Discriminator(DiscriminatorConfig(channels=[8, 8], condition="pair")).eval()
    assert model.stem.weight.shape[1] == 6
    images, target, other = torch.randn(3, 2, 3, 16, 16)
    scores = model(images, target)
    assert scores.shape == (2, 1, 4, 4)
    assert not torch.allclose(scores, model(images, other))
    assert not torch.allclose(scores, model(target, images))
