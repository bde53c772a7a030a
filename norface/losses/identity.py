"""Identity loss (eq. 7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def identity_loss(normalized: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Eq. 7: L_id = 1 - cos(E_id(I_t), E_id(I_n)), averaged; 0 = same direction, 2 = opposite.

    normalized, target (N, D), of any length.
    """
    return 1 - F.cosine_similarity(normalized.float(), target.float(), dim=1).mean()
