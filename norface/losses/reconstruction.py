"""Reconstruction loss over self pairs (eq. 5)."""

from __future__ import annotations

import torch

from norface.losses.distance import DISTANCES, PixelNorm


def reconstruction_loss(
    normalized: torch.Tensor,
    original: torch.Tensor,
    is_self: torch.Tensor,
    *,
    global_count: torch.Tensor,
    world_size: int = 1,
    norm: PixelNorm = "mse",
) -> torch.Tensor:
    """Eq. 5: L_rec = |I_n - I_o| where I_o = I_t, averaged over the self pairs of the global batch.

    Where original and target are two pictures of one clip, the face that is wanted is the original
    too; such pairs count as self pairs here.

    normalized, original (N, 3, S, S), -1..1; is_self (N,) bool. `global_count` is the number of
    self pairs over all ranks (a scalar). mse: mean of squares of a picture; l2: its Euclidean norm;
    l1: mean of absolute values. 0 when no rank has a self pair.

    Ranks hold different numbers of self pairs, and DDP takes the plain mean of their gradients. So
    a rank returns its sum times `world_size` / `global_count`: the mean of that over ranks is the
    sum over the global batch divided by its number of self pairs.
    """
    distance = DISTANCES[norm]
    # Multiplying, not indexing: shapes stay the same from batch to batch, and so does the graph.
    total = (distance(normalized, original) * is_self).sum()
    return total * world_size / global_count.clamp(min=1)
