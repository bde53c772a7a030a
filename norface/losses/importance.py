"""Equation (12): the importance loss, which keeps the experts equally used."""

from __future__ import annotations

import torch


def importance_loss(gates: torch.Tensor) -> torch.Tensor:
    """Squared coefficient of variation of the experts' importance.

    gates: G(x) after top-k over the *global* batch, (B, m), >= 0. Importance = its sum over the
    batch (m); the standard deviation is the population's (divided by m), as in Shazeer et al. 2017.
    Returns a scalar: 0 when all experts weigh the same, m - 1 when one answers for everything.
    """
    importance = gates.float().sum(dim=0)
    return importance.var(correction=0) / importance.mean().square().clamp_min(1e-12)
