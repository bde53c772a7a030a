"""What a step sends and what a rank holds, from the number of trained weights. No model is built.

A collective over R ranks of a tensor of V bytes sends from each rank, as rings do it (and nothing
can do it with less): all-reduce 2 (R - 1) / R V, all-gather and reduce-scatter (R - 1) / R V each.
What is called here is what Accelerate and DeepSpeed really call, which the tests count:

    DDP, ZeRO 0   all-reduce of the gradients
    ZeRO 1, 2     all-reduce of the gradients (DeepSpeed reduces whole buckets and keeps its part),
                  all-gather of the new weights
    ZeRO 3        all-gather of the weights, reduce-scatter of the gradients

ZeRO 3 gathers once a step where the weights fit stage3_max_reuse_distance (10^9 numbers, the
default) and stay for the backward pass. Left out: buffers, norms and metrics, some kB.
"""

from __future__ import annotations

from typing import NamedTuple

FP32 = 4
"Bytes of a number; gradients, weights and moments are fp32 unless backend.weights says bf16."


class Held(NamedTuple):
    """Bytes on each rank, activations and buffers of messages not counted."""

    weights: float
    gradients: float
    optimizer: float
    "Adam's two moments; under ZeRO the fp32 weights that it moves too."
    copies: float
    "The averaged network; at stage 3 the plain copy that measures, draws and saves."

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def sent_bytes(
    numbers: int,
    *,
    zero_stage: int | None,
    ranks: int,
    gathers: int = 0,
    whole_scatter: bool = False,
) -> float:
    """Bytes that each rank sends in a step of a network with so many trained numbers.

    `zero_stage`: None = Accelerate. `gathers`: how often the step asks for the whole network
    besides training it, which costs at stage 3 only. `whole_scatter`: gloo's reduce-scatter, which
    is an all-reduce.
    """
    once = (ranks - 1) / ranks * FP32 * numbers
    if zero_stage in (None, 0):
        return 2 * once
    if zero_stage in (1, 2):
        return 3 * once
    return (1 + gathers) * once + (2 if whole_scatter else 1) * once


def held_bytes(numbers: int, *, zero_stage: int | None, ranks: int, averaged: bool = False) -> Held:
    """What each rank holds of a network trained by Adam; `averaged`: and of its moving average."""
    whole, part = FP32 * float(numbers), FP32 * numbers / ranks
    average = whole if averaged else 0.0
    if zero_stage in (None, 0):
        return Held(whole, whole, 2 * whole, average)
    if zero_stage == 3:
        return Held(part, part, 3 * part, average + whole)
    return Held(whole, whole if zero_stage == 1 else part, 3 * part, average)
