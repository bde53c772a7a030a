"""Worked values of eq. 3-10."""

import math

import pytest
import torch

from norface.losses.adversarial import adversarial_loss, discriminator_loss
from norface.losses.expression import expression_loss
from norface.losses.eyebrow import eyebrow_loss
from norface.losses.identity import identity_loss
from norface.losses.landmark import landmark_loss
from norface.losses.perceptual import perceptual_loss
from norface.losses.reconstruction import reconstruction_loss
from norface.losses.weighted import LossWeights, weighted_sum


def test_adversarial_loss_of_scores_1_2_3_is_minus_2():
    assert adversarial_loss(torch.tensor([1.0, 2.0, 3.0])).item() == -2


def test_discriminator_hinge_counts_only_scores_inside_the_margin():
    # real: max(0, 1 - 2) = 0 and max(0, 1 - 0.5) = 0.5; fake: max(0, 1 - 3) = 0 and 1 + 1 = 2
    loss = discriminator_loss(torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0]))
    assert loss.item() == pytest.approx(0.25 + 1.0)


def test_reconstruction_looks_at_self_pairs_only():
    target = torch.zeros(3, 3, 2, 2)
    normalized = torch.stack([torch.full((3, 2, 2), value) for value in (0.5, 9.0, 1.0)])
    is_self = torch.tensor([True, False, True])
    count = torch.tensor(2.0)
    loss = reconstruction_loss(normalized, target, is_self, global_count=count)
    assert loss.item() == pytest.approx((0.25 + 1.0) / 2)
    loss = reconstruction_loss(normalized, target, is_self, global_count=count, norm="l2")
    assert loss.item() == pytest.approx((0.5 + 1.0) / 2 * math.sqrt(12))
    loss = reconstruction_loss(-normalized, target, is_self, global_count=count, norm="l1")
    assert loss.item() == pytest.approx((0.5 + 1.0) / 2)


def test_reconstruction_without_self_pairs_is_zero_with_zero_gradient():
    normalized = torch.ones(2, 3, 2, 2, requires_grad=True)
    nobody, count = torch.zeros(2, dtype=torch.bool), torch.tensor(0.0)
    loss = reconstruction_loss(normalized, torch.zeros(2, 3, 2, 2), nobody, global_count=count)
    loss.backward()
    assert loss.item() == 0
    assert normalized.grad.abs().sum() == 0


@pytest.mark.parametrize("norm", ["mse", "l2"])
def test_mean_over_ranks_of_reconstruction_is_that_of_the_global_batch(norm):
    # Rank 0 holds three self pairs, rank 1 one: the plain mean over ranks would count it thrice.
    torch.manual_seed(0)
    normalized, target = torch.rand(2, 8, 3, 4, 4)
    normalized.requires_grad_()
    is_self = torch.tensor([1, 1, 0, 1, 0, 0, 1, 0], dtype=torch.bool)
    count = is_self.sum()
    whole = reconstruction_loss(normalized, target, is_self, global_count=count, norm=norm)
    (expected,) = torch.autograd.grad(whole, normalized)
    parts = [
        reconstruction_loss(
            normalized[part], target[part], is_self[part], global_count=count, world_size=2,
            norm=norm,
        )
        for part in (slice(0, 4), slice(4, 8))
    ]  # fmt: skip
    mean_over_ranks = sum(parts) / 2
    (found,) = torch.autograd.grad(mean_over_ranks, normalized)
    torch.testing.assert_close(mean_over_ranks, whole)
    torch.testing.assert_close(found, expected)


def test_perceptual_sums_the_means_of_two_layers():
    first = [torch.zeros(2, 4, 3, 3), torch.zeros(2, 1, 2, 2)]
    second = [torch.full((2, 4, 3, 3), 2.0), torch.full((2, 1, 2, 2), 3.0)]
    assert perceptual_loss(first, second).item() == pytest.approx(4 + 9)
    expected = 2 * math.sqrt(36) + 3 * math.sqrt(4)
    assert perceptual_loss(first, second, norm="l2").item() == pytest.approx(expected)


def test_identity_is_zero_for_the_same_direction_one_for_right_angles_two_for_opposite():
    target = torch.tensor([[1.0, 0.0]])
    for feature, expected in (([5.0, 0.0], 0), ([0.0, 2.0], 1), ([-1.0, 0.0], 2)):
        loss = identity_loss(torch.tensor([feature]), target)
        assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_landmark_sees_the_contour_only():
    target = torch.zeros(1, 4, 2)
    normalized = torch.tensor([[[0.3, 0.4], [9.0, 9.0], [0.0, 0.0], [9.0, 9.0]]])
    assert landmark_loss(normalized, target, [0, 2]).item() == pytest.approx(0.25 / 4)
    assert landmark_loss(normalized, target, [0, 2], norm="l2").item() == pytest.approx(0.5)


def test_expression_is_the_squared_distance_over_16_whatever_the_length():
    for length in (2, 20):
        first = torch.zeros(1, length)
        second = torch.nn.functional.pad(torch.tensor([[3.0, 4.0]]), (0, length - 2))
        assert expression_loss(first, second).item() == pytest.approx(25 / 16)
        assert expression_loss(first, second, norm="l2").item() == pytest.approx(5)


def test_eyebrow_sums_squares_over_coefficients_and_averages_over_samples():
    first = torch.zeros(2, 3)
    second = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 1.0]])
    assert eyebrow_loss(first, second).item() == pytest.approx((9 + 1) / 2)
    assert eyebrow_loss(first, second, norm="l2").item() == pytest.approx((3 + 1) / 2)


def test_euclidean_terms_have_finite_gradient_where_features_are_equal():
    features = torch.ones(2, 3, requires_grad=True)
    expression_loss(features, torch.ones(2, 3), norm="l2").backward()
    assert features.grad.isfinite().all()


def test_half_precision_features_are_compared_in_full_precision():
    first = torch.full((1, 1000), 1.0, dtype=torch.bfloat16)
    second = torch.full((1, 1000), 1.0078125, dtype=torch.bfloat16)
    assert eyebrow_loss(first, second).item() == pytest.approx(1000 * 0.0078125**2)


def test_paper_weights_are_the_default():
    values = LossWeights().model_dump(exclude={"norm", "balance"})
    expected = {"adv": 1, "rec": 10, "perc": 5, "id": 10, "lm": 5000, "exp": 5000, "eye": 10}
    assert values == expected


def test_sum_leaves_out_terms_of_weight_zero_and_absent_ones():
    weights = LossWeights(adv=1, rec=10, perc=0, id=None, lm=None, exp=2, eye=None)
    losses = {name: torch.tensor(value) for name, value in
              {"adv": -1.0, "rec": 0.5, "perc": 100.0, "exp": 3.0}.items()}  # fmt: skip
    assert weighted_sum(losses, weights).item() == pytest.approx(-1 + 5 + 6)
    assert weights.present == ["adv", "rec", "perc", "exp"]
    assert weights.trained == ["adv", "rec", "exp"]
