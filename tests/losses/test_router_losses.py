"""Equations (12) and (13) by worked values."""

from __future__ import annotations

import math

import pytest
import torch

from norface.losses.classification import router_losses
from norface.losses.entropy import entropy, global_loss, local_loss
from norface.losses.importance import importance_loss
from norface.models.moe import RouterStatistics


def test_importance_of_equal_use_is_zero():
    assert float(importance_loss(torch.tensor([[0.7, 0.0], [0.0, 0.7]]))) == 0


def test_importance_is_the_squared_coefficient_of_variation_with_population_std():
    # Sums over the batch: 1.0 and 0.5; mean 0.75, population std 0.25: (1/3)^2.
    gates = torch.tensor([[0.6, 0.0], [0.4, 0.5]])
    assert float(importance_loss(gates)) == pytest.approx(1 / 9)


def test_importance_of_one_expert_for_everything_is_m_minus_one():
    gates = torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0]])
    assert float(importance_loss(gates)) == pytest.approx(3)


def test_entropy_of_uniform_and_of_certain():
    p = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0, 0, 0]])
    assert entropy(p).tolist() == pytest.approx([math.log(4), 0])


def test_sure_but_different_samples_have_the_lowest_global_and_local_loss():
    p = torch.eye(4)
    assert float(global_loss(p)) == pytest.approx(-math.log(4))
    assert float(local_loss(p)) == pytest.approx(0)


def test_global_and_local_of_a_worked_batch():
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5]])
    mean = 0.7 * math.log(0.7) + 0.3 * math.log(0.3)
    each = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) + math.log(2)
    assert float(global_loss(p)) == pytest.approx(mean)
    assert float(local_loss(p)) == pytest.approx(each / 2)


def test_entropy_has_a_finite_gradient_at_certainty():
    p = torch.tensor([[1.0, 0.0]], requires_grad=True)
    local_loss(p).backward()
    assert torch.isfinite(p.grad).all()


def test_terms_are_averaged_over_the_blocks():
    even = RouterStatistics(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.5]]))
    sure = RouterStatistics(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    terms = router_losses([even, sure])
    assert float(terms["imp"]) == pytest.approx(0.5)
    assert float(terms["global"]) == pytest.approx(-math.log(2) / 2)
    assert float(terms["local"]) == pytest.approx(math.log(2) / 2)


def test_a_classifier_without_experts_has_no_router_terms():
    assert router_losses([]) == {}
