"""The benches of F_cla measure what they say."""

import sys

import pytest
import torch

from norface.bench.classifier import bench_classifier
from norface.bench.moe import bench_moe, build_st_moe, count_room, loop_over_experts, step
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


def test_another_library_is_measured_where_it_is_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "st_moe_pytorch", None)
    without = bench_moe(batch=8, rounds=1, width=16, hidden=64)
    assert (without.st_moe_over_block, without.st_moe_room) == (None, None)
    assert "st-moe-pytorch is not installed: left out" in without.describe()


def test_st_moe_has_the_same_experts_and_drops_what_it_has_no_room_for():
    pytest.importorskip("st_moe_pytorch")
    block = MixtureOfExperts(16, MoEConfig())
    other = build_st_moe(block, 16, 2)
    sizes = [[p.shape for p in one.experts.parameters()] for one in (block, other)]
    assert sizes[0] == sizes[1]
    # Capacity factor 1.25: 80 places in each of 4 experts for 512 choices.
    assert count_room(other, 256, 2) == pytest.approx(4 * 80 / 512)
    rates = bench_moe(batch=8, rounds=1, width=16, hidden=64)
    assert rates.st_moe_over_block > 0 and "drops the others" in rates.describe()


def test_operations_of_a_training_step_are_counted():
    small = {"vit": {"side": 32, "patch": 16, "width": 32, "depth": 1, "heads": 2}}
    rate = bench_classifier(ClassifierConfig.model_validate(small), batch=2, rounds=1)
    assert rate.side == 32 and rate.gflop > 0 and 0 < rate.share < 1
    assert "goal 0.75" in rate.describe()
