"""Weights that give each loss the share of the gradient that was asked for, measured at the start.

Scales of losses differ with norms, critics and picture sizes, so a weight alone says little. Here
the shares are chosen and the weights follow: as long as it measures, each named term's weight is

    w_t = share_t / sum(shares) x sum_s(w_s |dL_s / dI_n|) / |dL_t / dI_n|

with the mean of the gradients' sizes so far and the configured w_s on the right, so that their
total stays what it was. After that the weights stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from norface.config import Config
from norface.errors import ConfigError

if TYPE_CHECKING:
    from norface.losses.weighted import LossWeights

Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BalanceConfig(Config):
    """Which share of the gradient in the normalized picture each term shall have at the start."""

    shares: dict[str, Share] = Field(min_length=2)
    "Term => share, in any unit; terms that are not named keep their weight."
    steps: int = Field(100, gt=0)
    "Steps that are measured, counted from the first in which all named terms are there."


def gradient_sizes(
    losses: Mapping[str, Tensor], terms: Collection[str], normalized: Tensor
) -> dict[str, Tensor]:
    """|d loss / d I_n| of those `terms` that are in `losses`, unweighted, over the whole batch.

    `normalized` must be part of the losses' graph, which is kept.
    """
    sizes = {}
    for term in terms:
        if term in losses:
            (gradient,) = torch.autograd.grad(
                losses[term], normalized, retain_graph=True, allow_unused=True
            )
            sizes[term] = (
                normalized.new_zeros((), dtype=torch.float32)
                if gradient is None
                else gradient.float().norm()
            )
    return sizes


class Balancer:
    """Holds the weights of eq. 3, and moves them while it measures.

        balancer = Balancer(config.losses, mean_over_ranks)
        weights = balancer.update(losses, normalized)      # once a step, before the weighted sum

    Without `losses.balance` it hands back the configured weights. `mean_over_ranks` takes a tensor
    to its mean over all ranks, so that all hold the same weights. Raises ConfigError for a term
    that is not trained on.
    """

    def __init__(self, weights: LossWeights, mean_over_ranks: Callable[[Tensor], Tensor]):
        self.configured = self.weights = weights
        self.mean_over_ranks = mean_over_ranks
        self.terms = list(weights.balance.shares) if weights.balance else []
        self.sums = dict.fromkeys(self.terms, 0.0)
        self.counted = 0
        for term in self.terms:
            if term not in weights.trained:
                raise ConfigError(
                    f"losses.balance.shares: names '{term}', which is not trained on; valid:"
                    f" {', '.join(weights.trained)}"
                )

    def update(self, losses: Mapping[str, Tensor], normalized: Tensor) -> LossWeights:
        """The weights of this step, from unweighted losses in whose graph `normalized` is."""
        asked = self.configured.balance
        if asked is None or self.counted >= asked.steps or any(t not in losses for t in self.terms):
            return self.weights
        sizes = gradient_sizes(losses, self.terms, normalized)
        means = self.mean_over_ranks(torch.stack([sizes[term] for term in self.terms])).tolist()
        # What is not finite ends the run by its loss; it must not reach the weights before.
        if all(math.isfinite(size) for size in means):
            for term, size in zip(self.terms, means, strict=True):
                self.sums[term] += size
            self.counted += 1
            self.weights = self.solve()
        return self.weights

    def solve(self) -> LossWeights:
        """The weights by the formula above; a term without gradient so far keeps its own."""
        asked, before = self.configured.balance, self.configured
        if asked is None or self.counted == 0:
            return before
        sizes = {t: self.sums[t] / self.counted for t in self.terms if self.sums[t] > 0}
        pull = sum(getattr(before, term) * size for term, size in sizes.items())
        unit = pull / sum(asked.shares[term] for term in sizes) if sizes else 0.0
        changed = {term: asked.shares[term] * unit / size for term, size in sizes.items()}
        return before.model_copy(update=changed)

    def shown(self) -> dict[str, Tensor]:
        """weight/TERM of the terms that it moves, to be logged."""
        return {f"weight/{term}": torch.tensor(getattr(self.weights, term)) for term in self.terms}

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, the same on all ranks; nothing where no balance was asked for."""
        return {"balance": {"counted": self.counted, "sums": dict(self.sums)}} if self.terms else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if self.terms:
            self.counted, self.sums = state["balance"]["counted"], dict(state["balance"]["sums"])
            self.weights = self.solve()
