"""Rows of the global batch on every rank, with gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: torch.Tensor, rank: int, world_size: int) -> torch.Tensor:
        context.rank, context.world_size, context.count = rank, world_size, rows.shape[0]
        parts = [torch.empty_like(rows) for _ in range(world_size)]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        # Every rank computes the same loss from the same rows, so the gradients agree and need no
        # exchange; the factor undoes the mean over ranks that follows in the backward pass.
        own = slice(context.rank * context.count, (context.rank + 1) * context.count)
        return gradients[0][own] * context.world_size, None, None


def gather_rows(rows: torch.Tensor, *, rank: int, world_size: int) -> torch.Tensor:
    """This rank's rows (B, ...) => all ranks' (world_size x B, ...), in rank order.

    For a loss that every rank computes alike over the global batch and whose gradients the backend
    averages over ranks: parameters then get the gradient of that loss as on one rank. All ranks
    call it together with the same shapes.
    """
    if world_size == 1:
        return rows
    return _GatherRows.apply(rows, rank, world_size)
