"""Adversarial loss in its hinge form (eq. 4)."""

from __future__ import annotations

import torch


def adversarial_loss(fake: torch.Tensor) -> torch.Tensor:
    """Eq. 4: L_adv = -E[D(I_n)], minimized by the generator. Scores of any shape; can be negative.

    Scores of 1, 2 and 3 give -2.
    """
    return -fake.float().mean()


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """E[max(0, 1 - D(I_t))] + E[max(0, 1 + D(I_n))], minimized by the discriminator; >= 0."""
    return (1 - real.float()).relu().mean() + (1 + fake.float()).relu().mean()
