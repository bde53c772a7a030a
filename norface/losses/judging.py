"""The terms of eq. 3 that pixels and critics tell of a batch: all but the adversarial one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from norface.critics.base import Critic, check_features, list_sources, read_features
from norface.errors import ConfigError
from norface.losses.balancing import gradient_sizes
from norface.losses.expression import expression_loss
from norface.losses.eyebrow import eyebrow_loss
from norface.losses.identity import identity_loss
from norface.losses.landmark import landmark_loss
from norface.losses.perceptual import perceptual_loss
from norface.losses.reconstruction import reconstruction_loss
from norface.losses.weighted import CRITIC_OF, LossWeights

FROM_TARGET = ("perc", "id", "lm")
"Terms that compare with the target; the other two of CRITIC_OF compare with the original."


class Judging:
    """Compares a normalized batch with its originals and targets through the critics.

        judging = Judging(critics, weights)
        truth = judging.read_truth(original, target, terms)       # once a batch, no gradient
        losses = judging.measure(normalized, target, is_self, truth, ...)

    Raises ConfigError when a term with a weight above 0 has no critic, WeightsError when a critic's
    first features are not finite.
    """

    def __init__(self, critics: Mapping[str, Critic], weights: LossWeights):
        self.critics, self.norm = critics, weights.norm
        self.checked = False
        for term in weights.trained:
            if term in CRITIC_OF and CRITIC_OF[term] not in critics:
                kind = CRITIC_OF[term]
                raise ConfigError(
                    f"losses.{term}: found {getattr(weights, term)}, but critics.{kind} is not set;"
                    f" choose its source ({list_sources(kind)}; `norface critics list` says where"
                    f" to get each) or set losses.{term}=null"
                )

    def can_measure(self, term: str) -> bool:
        """Whether pixels or a critic that is there tell this term."""
        return term == "rec" or CRITIC_OF.get(term) in self.critics

    @torch.no_grad()
    def read_truth(
        self,
        original: torch.Tensor,
        target: torch.Tensor,
        terms: Collection[str],
        known: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Features that the normalized faces should have, by term.

        `known` are those of the targets, by critic, where `read_targets` has them already.
        """
        kept = [CRITIC_OF[term] for term in FROM_TARGET if term in terms]
        moved = [CRITIC_OF[term] for term in ("exp", "eye") if term in terms]
        features = read_features(self.critics, target, kept) if known is None else dict(known)
        features |= read_features(self.critics, original, moved)
        if not self.checked:
            # Once only: asking every batch would make the device wait; a loss that is not finite
            # ends the run anyway.
            check_features(features)
            self.checked = True
        return {term: features[CRITIC_OF[term]] for term in terms if term in CRITIC_OF}

    @torch.no_grad()
    def read_targets(self, target: torch.Tensor) -> dict[str, Any]:
        """Features of targets (N, 3, S, S) that any term compares with, by critic."""
        return read_features(self.critics, target, [CRITIC_OF[term] for term in FROM_TARGET])

    def measure(
        self,
        normalized: torch.Tensor,
        original: torch.Tensor,
        is_self: torch.Tensor,
        truth: Mapping[str, Any],
        *,
        terms: Collection[str],
        global_count: torch.Tensor,
        world_size: int,
    ) -> dict[str, torch.Tensor]:
        """Unweighted losses by term. See reconstruction_loss for the last two arguments."""
        norm = self.norm
        kinds = [CRITIC_OF[term] for term in terms if term in CRITIC_OF]
        seen = read_features(self.critics, normalized, kinds)
        losses: dict[str, torch.Tensor] = {}
        if "rec" in terms:
            losses["rec"] = reconstruction_loss(
                normalized, original, is_self, global_count=global_count, world_size=world_size,
                norm=norm.rec,
            )  # fmt: skip
        equations: dict[str, Callable[[Any, Any], torch.Tensor]] = {
            "perc": lambda found, true: perceptual_loss(found, true, norm=norm.perc),
            "id": identity_loss,
            "lm": lambda found, true: landmark_loss(
                found, true, self.critics["landmarks"].contour, norm=norm.lm
            ),
            "exp": lambda found, true: expression_loss(found, true, norm=norm.exp),
            "eye": lambda found, true: eyebrow_loss(found, true, norm=norm.eye),
        }
        for term, equation in equations.items():
            if term in terms:
                losses[term] = equation(seen[CRITIC_OF[term]], truth[term])
        return losses


def gradient_shares(
    losses: Mapping[str, torch.Tensor], weights: LossWeights, normalized: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Share of each trained term in what pulls at the picture: |weight x d loss / d I_n|, sum 1.

    `normalized` must be part of the losses' graph, which is kept.
    """
    found = gradient_sizes(losses, weights.trained, normalized)
    sizes = {term: getattr(weights, term) * size for term, size in found.items()}
    total = torch.stack(list(sizes.values())).sum().clamp(min=1e-30)
    return {term: size / total for term, size in sizes.items()}
