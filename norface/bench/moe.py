"""`norface bench moe`: the MoE block against the matrix products that it cannot do without.

Both passes in fp32. At a large batch arithmetic bounds it: the limit is the time of the products of
the chosen experts alone, 6 an expert (2 forward, 4 backward), all experts chosen equally often. At
a small batch memory bounds it: the weights are read twice and their gradients are written once.
Beside it stands a plain loop over experts that gathers its samples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from norface.bench.rates import LARGE, copy_memory, median_ratio, time_in_turns
from norface.config import Config
from norface.models.moe import MixtureOfExperts, MoEConfig

GOAL_SHARE, GOAL_OVER_BANDWIDTH = 0.8, 1.3
WEIGHT_PASSES = 3
"Times that a weight's bytes move: read forward, read backward, its gradient written."


class MoERates(Config):
    """Of one batch size."""

    batch: int
    width: int
    hidden: int
    experts: int
    top_k: int
    seconds: float
    "Median of the block, forward and backward."
    of_matmul: float
    "Time of the chosen experts' products alone over the block's."
    over_bandwidth: float
    "The block's time over that of moving the weights at the measured bandwidth."
    loop_over_block: float
    "Time of the plain loop over the block's: above 1 = the block is faster."
    arithmetic_bound: bool
    "Whether arithmetic bounds it here, not memory: which of the two goals counts."

    def describe(self) -> str:
        """Lines for a person."""
        share, over = f"{self.of_matmul:.2f}", f"{self.over_bandwidth:.2f}"
        if self.arithmetic_bound:
            share += f" (goal {GOAL_SHARE})"
        else:
            over += f" (goal {GOAL_OVER_BANDWIDTH}), memory bounds it here"
        return (
            f"MoE block, batch {self.batch}, {self.width} -> {self.hidden}, {self.top_k} of"
            f" {self.experts} experts, both passes: {1e3 * self.seconds:.1f} ms\n"
            f"  share of the matmul rate of the chosen experts: {share}\n"
            f"  times the time that moving the weights takes: {over}\n"
            f"  a plain loop over gathered samples takes {self.loop_over_block:.2f} of its time"
        )


def bench_moe(
    *,
    batch: int,
    rounds: int,
    width: int = 768,
    hidden: int = 3072,
    experts: int = 4,
    top_k: int = 2,
) -> MoERates:
    """Measure one batch size, everything in turns."""
    torch.manual_seed(0)
    config = MoEConfig(experts=experts, top_k=top_k, hidden_ratio=hidden / width)
    block = MixtureOfExperts(width, config)
    x = torch.randn(batch, width, requires_grad=True)
    noise = torch.randn(batch, experts)
    large = torch.zeros(LARGE), torch.zeros(LARGE)
    found = time_in_turns(
        {
            "block": lambda: step(block, x, lambda: block(x, noise)[0]),
            "loop": lambda: step(block, x, lambda: loop_over_experts(block, x, noise)),
            "matmul": make_products(batch * top_k // experts, width, hidden, experts),
            "copy": lambda: copy_memory(*large),
        },
        rounds,
    )
    weights = 4 * sum(p.numel() for p in block.experts.parameters())
    moved = WEIGHT_PASSES * weights / copy_memory(*large)
    bandwidth_s = [moved * seconds for seconds in found["copy"]]
    return MoERates(
        batch=batch,
        width=width,
        hidden=hidden,
        experts=experts,
        top_k=top_k,
        seconds=float(torch.tensor(found["block"]).median()),
        of_matmul=round(median_ratio(found["matmul"], found["block"]), 3),
        over_bandwidth=round(median_ratio(found["block"], bandwidth_s), 3),
        loop_over_block=round(median_ratio(found["loop"], found["block"]), 3),
        arithmetic_bound=median_ratio(found["matmul"], bandwidth_s) > 1.5,
    )


def step(block: MixtureOfExperts, x: torch.Tensor, forward: Callable[[], torch.Tensor]) -> None:
    """Both passes, with fresh gradients as in training."""
    block.zero_grad(set_to_none=True)
    x.grad = None
    forward().sum().backward()


def loop_over_experts(
    block: MixtureOfExperts, x: torch.Tensor, noise: torch.Tensor | None
) -> torch.Tensor:
    """The block's answer, an expert after the other on the samples that chose it."""
    assert block.router is not None
    gates = block.router(x, noise).gates
    answer = torch.zeros_like(x)
    for number, expert in enumerate(block.experts):
        rows = gates[:, number].nonzero()[:, 0]
        weighted = gates[rows, number, None] * expert(x[rows])
        answer = answer.index_add(0, rows, weighted)
    return answer


def make_products(rows: int, width: int, hidden: int, experts: int) -> Callable[[], object]:
    """The products of both passes of `experts` experts with `rows` samples each."""
    x, h = torch.randn(rows, width), torch.randn(rows, hidden)
    weights = [(torch.randn(hidden, width), torch.randn(width, hidden)) for _ in range(experts)]

    def multiply() -> None:
        kept = []
        for first, second in weights:
            x @ first.t()
            h @ second.t()
            x @ second
            h @ first
            # The gradients of all experts are there at the end, as after a backward pass.
            kept += [x.t() @ h, h.t() @ x]

    return multiply
