import numpy as np
import pytest
import torch

from norface.data.mixing import Mix, MixConfig, draw_mix, mix_labels, one_hot
from norface.losses.classification import detection_loss, emotion_loss
from norface.training.seeding import sample_rng


def draws(config, count=2000):
    return [draw_mix(config, sample_rng(0, 0, position, "mix")) for position in range(count)]


def test_mixup_on_worked_values():
    images, partners = torch.full((2, 3, 4, 4), 1.0), torch.full((2, 3, 4, 4), -1.0)
    mixed = Mix(0.75).blend(images, partners)
    assert mixed.shape == (2, 3, 4, 4) and torch.allclose(mixed, torch.tensor(0.5))
    labels = mix_labels(np.array([1, 0, 1, np.nan]), np.array([0, 0, np.nan, 1]), 0.75)
    np.testing.assert_array_equal(labels, np.float32([0.75, 0, np.nan, np.nan]))
    assert labels.dtype == np.float32


def test_cutmix_pastes_its_rectangle_and_counts_its_pixels():
    mix = Mix(0.5, (0.5, 0.25, 1.0, 0.75))
    images, partners = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)
    mixed = mix.blend(images, partners)
    expected = torch.zeros(3, 8, 8)
    expected[:, 2:6, 4:8] = 1
    assert torch.equal(mixed, expected) and torch.equal(images, torch.zeros(3, 8, 8))
    assert mix.share_at(8) == 1 - 16 / 64 == 1 - mixed.mean()


def test_the_drawn_rectangle_is_as_large_as_the_share_says_unless_it_is_cut_off():
    for mix in draws(MixConfig(cutmix=1.0)):
        left, top, right, bottom = mix.box
        assert 0 <= left <= right <= 1 and 0 <= top <= bottom <= 1
        area = (right - left) * (bottom - top)
        assert area <= 1 - mix.share + 1e-9
        if min(left, top) > 0 and max(right, bottom) < 1:
            assert area == pytest.approx(1 - mix.share)


@pytest.mark.parametrize("a", [0.2, 1.0, 4.0])
def test_shares_have_the_moments_of_the_beta_distribution(a):
    shares = np.array([mix.share for mix in draws(MixConfig(mixup=a))])
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * a + 1)), rel=0.1)


def test_with_both_on_a_coin_decides_and_with_none_nothing_is_mixed():
    kinds = [mix.box is None for mix in draws(MixConfig(mixup=1.0, cutmix=1.0))]
    assert 0.45 < np.mean(kinds) < 0.55
    assert not MixConfig().on and draw_mix(MixConfig(), np.random.default_rng(0)) == Mix(1.0)


def test_classes_become_shares_and_unknown_ones_stay_unknown():
    np.testing.assert_array_equal(one_hot(2, 4), [0, 0, 1, 0])
    assert np.isnan(one_hot(-1, 4)).all()
    mixed = mix_labels(one_hot(0, 3), one_hot(2, 3), 0.25)
    np.testing.assert_array_equal(mixed, np.float32([0.25, 0, 0.75]))


def test_the_loss_of_mixed_labels_is_the_mix_of_the_losses():
    logits, share = torch.tensor([[0.3, -1.0, 2.0]]), 0.3
    soft = torch.from_numpy(mix_labels(one_hot(0, 3), one_hot(2, 3), share))[None]
    parts = [emotion_loss(logits, torch.tensor([label])) for label in (0, 2)]
    expected = share * parts[0] + (1 - share) * parts[1]
    torch.testing.assert_close(emotion_loss(logits, soft), expected)

    units = [torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, 1.0]])]
    mixed = torch.from_numpy(mix_labels(units[0].numpy(), units[1].numpy(), share))
    parts = [detection_loss(logits, labels) for labels in units]
    expected = share * parts[0] + (1 - share) * parts[1]
    torch.testing.assert_close(detection_loss(logits, mixed), expected)


def test_shares_of_one_class_are_that_class_with_weights_and_missing_rows_too():
    logits = torch.tensor([[0.3, -1.0], [1.0, 2.0], [0.0, 5.0]])
    weights = torch.tensor([0.5, 2.0])
    hard = torch.tensor([1, -1, 0])
    soft = torch.from_numpy(np.stack([one_hot(int(label), 2) for label in hard]))
    found, expected = emotion_loss(logits, soft, weights), emotion_loss(logits, hard, weights)
    torch.testing.assert_close(found, expected)
