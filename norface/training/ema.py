"""Exponential moving average of weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class MovingAverage(Generic[M]):
    """A copy of a model, in evaluation mode, that follows it slowly.

    After step t (from 0) the copy keeps min(decay, (1 + t) / (10 + t)) of itself, so that a short
    run does not end near its random start: step 0 keeps 0.1, step 90 keeps 0.91.
    """

    def __init__(self, model: M, decay: float):
        self.decay = decay
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards `model` after step `step`; buffers are copied."""
        kept = min(self.decay, (1 + step) / (10 + step))
        mine: list[torch.Tensor] = list(self.model.parameters())
        theirs: list[torch.Tensor] = list(model.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - kept)
        for copied, source in zip(self.model.buffers(), model.buffers(), strict=True):
            copied.copy_(source)
