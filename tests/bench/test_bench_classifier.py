"""The benches of F_cla measure what they say."""

import pytest
import torch

from norface.bench.classifier import bench_classifier
from norface.bench.moe import bench_moe, loop_over_experts, step
from norface.models.classifier import ClassifierConfig
from norface.models.moe import MixtureOfExperts, MoEConfig


@pytest.mark.parametrize("batch", [3, 33])
def test_the_plain_loop_is_the_block_with_its_gradients(batch):
    torch.manual_seed(3)
    block = MixtureOfExperts(48, MoEConfig())
    x, noise = torch.randn(batch, 48, requires_grad=True), torch.randn(batch, 4)
    found = []
    for forward in (lambda: block(x, noise)[0], lambda: loop_over_experts(block, x, noise)):
        step(block, x, forward)
        grads = [x.grad, *(p.grad for p in block.parameters() if p.grad is not None)]
        found.append([forward().detach(), *(grad.clone() for grad in grads)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_ratios_of_the_block_are_measured():
    rates = bench_moe(batch=8, rounds=2, width=16, hidden=64)
    assert 0 < rates.of_matmul < 1.5 and rates.over_bandwidth > 0 and rates.loop_over_block > 0
    assert "2 of 4 experts" in rates.describe()


def test_operations_of_a_training_step_are_counted():
    small = {"vit": {"side": 32, "patch": 16, "width": 32, "depth": 1, "heads": 2}}
    rate = bench_classifier(ClassifierConfig.model_validate(small), batch=2, rounds=1)
    assert rate.side == 32 and rate.gflop > 0 and 0 < rate.share < 1
    assert "goal 0.75" in rate.describe()
