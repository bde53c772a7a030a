"""`norface bench moe`: the MoE block against the matrix products that it cannot do without.

Both passes in fp32. At a large batch arithmetic bounds it: the limit is the time of the products of
the chosen experts alone, 6 an expert (2 forward, 4 backward), all experts chosen equally often. At
a small batch memory bounds it: the weights are read twice and their gradients are written once.
Beside it stand a plain loop over experts that gathers its samples and, where it is installed, the
block of st-moe-pytorch (no dependency of ours) around the same experts. That one has room for a
share of the samples' choices and drops the others, so it multiplies less: not the same function.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

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
    st_moe_over_block: float | None
    "Time of st-moe-pytorch's block over this one's; null = it is not installed."
    st_moe_room: float | None
    "Share of all choices of an expert that st-moe-pytorch has room for; the rest is dropped."
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
            f"  a plain loop over gathered samples takes {self.loop_over_block:.2f} of its time\n"
            f"  st-moe-pytorch {self._describe_st_moe()}"
        )

    def _describe_st_moe(self) -> str:
        if self.st_moe_over_block is None:
            return "is not installed: left out (pip install st-moe-pytorch)"
        return (
            f"takes {self.st_moe_over_block:.2f} of its time, with room for {self.st_moe_room:.2f}"
            " of the samples' choices: it drops the others, the block none"
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
    st_moe = build_st_moe(block, width, top_k)
    others = {}
    if st_moe is not None:
        # The whole batch is one group of samples.
        others["st_moe"] = lambda: step(st_moe, x, lambda: st_moe(x[None]).outputs)
    found = time_in_turns(
        {
            **others,
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
        st_moe_over_block=(
            round(median_ratio(found["st_moe"], found["block"]), 3) if st_moe is not None else None
        ),
        st_moe_room=round(count_room(st_moe, batch, top_k), 3) if st_moe is not None else None,
        arithmetic_bound=median_ratio(found["matmul"], bandwidth_s) > 1.5,
    )


def build_st_moe(block: MixtureOfExperts, width: int, top_k: int) -> Any | None:
    """The block of st-moe-pytorch around copies of the same experts, its other settings as they
    come, but that every chosen expert counts (threshold 0); None where it cannot be imported."""
    try:
        from st_moe_pytorch import MoE
    except ImportError:
        return None
    experts = copy.deepcopy(block.experts)
    return MoE(
        dim=width,
        num_experts=len(experts),
        gating_top_n=top_k,
        threshold_train=0.0,
        experts=experts,
        is_distributed=False,
    )


def count_room(st_moe: Any, batch: int, top_k: int) -> float:
    """Share of batch x top_k choices that fit into the experts of st-moe-pytorch, 0..1."""
    x = torch.zeros(1, batch, st_moe.dim)
    with torch.no_grad():
        # (1, batch, experts, places)
        dispatch = st_moe.gate(x)[0]
    experts, places = dispatch.shape[-2:]
    return min(1.0, float(experts * places / (batch * top_k)))


def step(block: torch.nn.Module, x: torch.Tensor, forward: Callable[[], torch.Tensor]) -> None:
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
