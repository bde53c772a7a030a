"""Expression loss (eq. 9)."""

from __future__ import annotations

import torch

from norface.losses.distance import Norm, euclidean, squared_distance

SCALE = 16
"Squared distances are divided by this fixed number, whatever the length of the embedding."


def expression_loss(
    normalized: torch.Tensor, original: torch.Tensor, *, norm: Norm = "mse"
) -> torch.Tensor:
    """Eq. 9: L_exp = |E_exp(I_o) - E_exp(I_n)|, averaged over the samples.

    normalized, original (N, E). mse: squares summed over the embedding, / 16; l2: Euclidean norm.
    """
    if norm == "l2":
        return euclidean(normalized, original).mean()
    return squared_distance(normalized, original).mean() / SCALE
