"""The MoE block against a plain reference that runs every expert on every sample."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from norface.config import load_config
from norface.errors import ConfigError
from norface.models.moe import MixtureOfExperts, MoEConfig


def make_block(width: int = 12, seed: int = 0, **settings) -> MixtureOfExperts:
    torch.manual_seed(seed)
    block = MixtureOfExperts(width, MoEConfig(**settings))
    if block.router is not None:
        torch.nn.init.normal_(block.router.gate.weight)
        torch.nn.init.normal_(block.router.noise.weight)
    return block


def plain_answer(block: MixtureOfExperts, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The formula written out sample by sample, all experts on all samples."""
    rows = []
    for row, eps in zip(x, noise, strict=True):
        spread = torch.log1p(torch.exp(block.router.noise.weight @ row))
        clean = block.router.gate.weight @ row
        if block.config.router == "noisy":
            scores = torch.softmax(clean + eps * spread, 0)
        else:
            scores = torch.softmax(clean + eps, 0) * spread
        order = scores.argsort(descending=True)[: block.config.top_k].tolist()
        total = sum(scores[e] for e in order) if block.config.renormalize else 1.0
        rows.append(sum(scores[e] / total * block.experts[e](row) for e in order))
    return torch.stack(rows)


@pytest.mark.parametrize("settings", [
    {}, {"router": "printed"}, {"renormalize": True}, {"experts": 3, "top_k": 1},
    {"experts": 2, "top_k": 2}, {"experts": 8, "top_k": 2},
])  # fmt: skip
def test_sparse_dispatch_gives_the_outputs_and_gradients_of_the_plain_formula(settings):
    block = make_block(**settings)
    m = block.config.experts
    x = torch.randn(17, 12, requires_grad=True)
    noise = torch.randn(17, m)
    answer, _ = block(x, noise)
    target = torch.randn_like(answer)
    found = torch.autograd.grad((answer * target).sum(), [x, *block.parameters()])
    expected = plain_answer(block, x, noise)
    wanted = torch.autograd.grad(
        (expected * target).sum(), [x, *block.parameters()], allow_unused=True
    )
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(
            one, torch.zeros_like(one) if other is None else other, atol=1e-5, rtol=1e-5
        )


def test_statistics_are_the_distribution_before_and_the_weights_after_top_k():
    block = make_block()
    _, statistics = block(torch.randn(9, 12), torch.randn(9, 4))
    torch.testing.assert_close(statistics.probabilities.sum(1), torch.ones(9))
    assert ((statistics.gates > 0).sum(1) == 2).all()
    kept = statistics.gates > 0
    torch.testing.assert_close(statistics.gates[kept], statistics.probabilities[kept])
    assert (statistics.gates.sum(1) < 1).all()


def test_renormalized_weights_sum_to_one():
    block = make_block(renormalize=True)
    _, statistics = block(torch.randn(9, 12))
    torch.testing.assert_close(statistics.gates.sum(1), torch.ones(9))


def test_without_noise_the_same_input_is_routed_the_same_way():
    block = make_block()
    x = torch.randn(5, 12)
    assert torch.equal(block(x)[0], block(x)[0])


def test_the_answer_of_a_sample_does_not_depend_on_its_neighbours():
    block = make_block()
    x, noise = torch.randn(16, 12), torch.randn(16, 4)
    alone = torch.cat([block(x[i : i + 1], noise[i : i + 1])[0] for i in range(16)])
    torch.testing.assert_close(block(x, noise)[0], alone, atol=1e-6, rtol=1e-5)


def test_an_expert_that_nobody_chose_has_a_zero_gradient_not_a_missing_one():
    block = make_block(experts=4, top_k=1)
    answer, _ = block(torch.randn(1, 12))
    answer.sum().backward()
    assert all(parameter.grad is not None for parameter in block.experts.parameters())
    used = [float(net[0].weight.grad.abs().sum()) > 0 for net in block.experts]
    assert sum(used) == 1


def test_zero_experts_is_one_plain_mlp_of_an_experts_size():
    block = make_block(experts=0)
    x = torch.randn(3, 12)
    answer, statistics = block(x)
    first, second = block.experts[0][0], block.experts[0][2]
    expected = functional.gelu(x @ first.weight.T + first.bias) @ second.weight.T + second.bias
    torch.testing.assert_close(answer, expected)
    assert statistics is None
    expert = make_block(experts=4).experts[0]
    assert [p.shape for p in block.parameters()] == [p.shape for p in expert.parameters()]


def test_more_chosen_than_there_are_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="'top_k' 3 is more than 'experts' 2"):
        load_config(MoEConfig, None, ["experts=2", "top_k=3"])
