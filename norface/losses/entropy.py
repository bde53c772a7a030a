"""Equation (13): the global and the local entropy loss of a router."""

from __future__ import annotations

import torch


def entropy(p: torch.Tensor) -> torch.Tensor:
    """Entropy in nats over the last dimension; 0 log 0 = 0."""
    return -torch.xlogy(p, p.clamp_min(torch.finfo(p.dtype).tiny)).sum(dim=-1)


def global_loss(probabilities: torch.Tensor) -> torch.Tensor:
    """L_global: minus the entropy of the mean of p (B, m) over the *global* batch.

    A scalar in [-log m, 0]; lowest when the batch as a whole uses all experts alike.
    """
    return -entropy(probabilities.float().mean(dim=0))


def local_loss(probabilities: torch.Tensor) -> torch.Tensor:
    """L_local: mean over the *global* batch of the entropy of each p(x), (B, m).

    A scalar in [0, log m]; lowest when every sample is sure of its expert.
    """
    return entropy(probabilities.float()).mean()
