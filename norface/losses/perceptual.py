"""Perceptual loss on the last feature maps of a recognition network (eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from norface.losses.distance import Norm, euclidean, mean_square


def perceptual_loss(
    normalized: Sequence[torch.Tensor], target: Sequence[torch.Tensor], *, norm: Norm = "mse"
) -> torch.Tensor:
    """Eq. 6: L_perc = |VGG(I_t) - VGG(I_n)|, summed over the layers, averaged over the samples.

    Two lists of equally many maps (N, C, h, w). mse: mean of squares of a layer; l2: its norm.
    """
    distance = mean_square if norm == "mse" else euclidean
    pairs = zip(normalized, target, strict=True)
    return torch.stack([distance(first, second).mean() for first, second in pairs]).sum()
