"""Eyebrow loss (eq. 10)."""

from __future__ import annotations

import torch

from norface.losses.distance import Norm, euclidean, squared_distance


def eyebrow_loss(
    normalized: torch.Tensor, original: torch.Tensor, *, norm: Norm = "mse"
) -> torch.Tensor:
    """Eq. 10: L_eye = |E_eye(I_o) - E_eye(I_n)|, averaged over the samples.

    normalized, original (N, B): brow coefficients. mse: squares summed over them; l2: their norm.
    """
    distance = squared_distance if norm == "mse" else euclidean
    return distance(normalized, original).mean()
