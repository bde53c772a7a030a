"""The sum of F_nor's losses (eq. 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field

from norface.config import Config
from norface.losses.balancing import BalanceConfig
from norface.losses.distance import Norm, PixelNorm

TERMS = ("adv", "rec", "perc", "id", "lm", "exp", "eye")
"The paper's names, in the order of eq. 4-10."

CRITIC_OF = {
    "perc": "perceptual",
    "id": "identity",
    "lm": "landmarks",
    "exp": "expression",
    "eye": "eyebrow",
}
"Term => kind of the critic that it needs."


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Norms(Config):
    """mse = squares, l2 = the Euclidean norm that the paper prints; l1 = absolute values. See each
    loss for its scale."""

    rec: PixelNorm = "mse"
    perc: Norm = "mse"
    lm: Norm = "mse"
    exp: Norm = "mse"
    eye: Norm = "mse"


class LossWeights(Config):
    """Weights of eq. 3; the defaults are the paper's. 0 = measured at log steps; null = absent."""

    adv: Weight | None = 1.0
    "Realism, by the discriminator (eq. 4)."
    rec: Weight | None = 10.0
    "Pixels of self pairs (eq. 5)."
    perc: Weight | None = 5.0
    "Target's appearance (eq. 6)."
    id: Weight | None = 10.0
    "Target's identity (eq. 7)."
    lm: Weight | None = 5000.0
    "Target's facial contour (eq. 8)."
    exp: Weight | None = 5000.0
    "Original's expression (eq. 9)."
    eye: Weight | None = 10.0
    "Original's brows (eq. 10)."
    norm: Norms = Norms()
    "Which distance each term measures."
    balance: BalanceConfig | None = None
    "Shares of the gradient that the weights are moved to at the start; null = weights as given."

    @property
    def present(self) -> list[str]:
        """Terms that are trained on or measured."""
        return [term for term in TERMS if getattr(self, term) is not None]

    @property
    def trained(self) -> list[str]:
        """Terms with a weight above 0."""
        return [term for term in self.present if getattr(self, term) > 0]

    @property
    def judges(self) -> list[str]:
        """Kinds of critics that the terms present ask."""
        return [CRITIC_OF[term] for term in self.present if term in CRITIC_OF]


def weighted_sum(losses: Mapping[str, torch.Tensor], weights: LossWeights) -> torch.Tensor:
    """Eq. 3: the sum of weight x loss over the terms of `losses` that are trained on (a scalar)."""
    return torch.stack(
        [getattr(weights, term) * losses[term] for term in weights.trained if term in losses]
    ).sum()
