"""What networks cost: parameters and floating-point operations, counted without computing any.

costs = [measure_cost("E_s", encoder, (3, 256, 256))]
print(tabulate_costs(costs))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Of one network and one sample (a batch of 1)."""

    name: str
    parameters: int
    trained: int
    "Parameters that ask for gradients."
    forward: int
    "Operations of a forward pass: matrix products, attention and convolutions; a + b c is two."
    backward: int
    "Of the backward pass, what `gradient_checkpointing` computes again included."


def measure_cost(
    name: str, network: nn.Module, *shapes: Sequence[int], into_inputs: bool = True
) -> Cost:
    """Cost of `network` on inputs of these shapes, without their batch, float32.

    `into_inputs`: whether the backward pass goes on into them, as it does within a larger network.
    Everything happens on torch's `meta` device: no memory, no work. The network stays as it is.
    """
    counted = CountedPasses(network)
    placed = {
        key: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad)
        for key, tensor in [*counted.named_parameters(), *counted.named_buffers()]
    }
    inputs = tuple(
        torch.empty(1, *shape, device="meta", requires_grad=into_inputs) for shape in shapes
    )
    forward, backward = functional_call(counted, placed, inputs)
    numbers = [parameter.numel() for parameter in network.parameters()]
    trained = [p.numel() for p in network.parameters() if p.requires_grad]
    return Cost(name, sum(numbers), sum(trained), forward, backward)


class CountedPasses(nn.Module):
    """Inputs => operations of a network's forward and of its backward pass.

    The backward pass belongs in here: with gradient checkpointing it calls the network again.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> tuple[int, int]:
        with FlopCounterMode(display=False) as first:
            found = self.network(*inputs)
        with FlopCounterMode(display=False) as second:
            answers = [tensor for tensor in list_tensors(found) if tensor.requires_grad]
            torch.autograd.backward([tensor.float().sum() for tensor in answers])
        return first.get_total_flops(), second.get_total_flops()


def add_costs(name: str, costs: Sequence[Cost]) -> Cost:
    """Operations of all; a network that comes twice has its weights once."""
    once = {cost.name: cost for cost in costs}.values()
    return Cost(
        name,
        sum(cost.parameters for cost in once),
        sum(cost.trained for cost in once),
        sum(cost.forward for cost in costs),
        sum(cost.backward for cost in costs),
    )


def list_tensors(found: Any) -> list[torch.Tensor]:
    """The tensors in nested lists and dicts."""
    if isinstance(found, torch.Tensor):
        return [found]
    inner = found.values() if isinstance(found, dict) else found
    return [tensor for one in inner for tensor in list_tensors(one)]


def tabulate_costs(costs: Sequence[Cost]) -> str:
    """Costs as a plain table: millions of parameters, 10^9 operations of one sample."""
    width = max(len("network"), *(len(cost.name) for cost in costs))
    head = f"{'network':{width}}  {'M param.':>9} {'trained':>9} {'GFLOP fwd':>10} {'bwd':>9}"
    return "\n".join(
        [
            head,
            *(
                f"{cost.name:{width}}  {cost.parameters / 1e6:9.2f} {cost.trained / 1e6:9.2f}"
                f" {cost.forward / 1e9:10.3f} {cost.backward / 1e9:9.3f}"
                for cost in costs
            ),
        ]
    )
