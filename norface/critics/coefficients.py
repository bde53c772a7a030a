"""A network that regresses coefficients of a face as the judge of the brows (eq. 10).

The paper takes the blend shapes of a 3DMM. Card: by path, a checkpoint of a timm network with a
linear layer to the coefficients (`architecture: NAME`; side and scaling as timm has them);
`coefficients` lists those of its outputs that move the brows. A reader of `norface train critic`
is given as source synthetic with its `weights` instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from norface.critics.base import Card, Critic, CriticChoice, find_weights
from norface.critics.catalogue import OFFERS
from norface.critics.embedding import fill_timm
from norface.errors import ConfigError
from norface.files import file_sha256
from norface.images import resize_images
from norface.models.tensors import at_least_single


class CoefficientsCritic(Critic):
    """images (N, 3, H, W), -1..1 => (N, B): the chosen outputs, in their order, as they are."""

    chosen: Tensor

    def __init__(
        self,
        kind: str,
        card: Card,
        network: nn.Module,
        scaling: nn.Module,
        chosen: list[int],
    ):
        super().__init__(kind, card)
        self.network, self.scaling = network, scaling
        self.register_buffer("chosen", torch.tensor(chosen), persistent=False)

    @classmethod
    def load(cls, kind: str, choice: CriticChoice, parts: dict[Any, Any]) -> CoefficientsCritic:
        """Raises WeightsError, and ConfigError for what `architecture` and `coefficients` lack."""
        offer = OFFERS["coefficients"]
        path = find_weights(choice, advice=offer.where)
        if choice.architecture is None:
            raise ConfigError(
                f"critics.{kind}.architecture: source=coefficients needs timm's name of the network"
                f" in {path}; a reader of `norface train critic` is source=synthetic"
            )
        network, scaling, side, length = fill_timm(path, choice.architecture)
        chosen = list(range(length)) if choice.coefficients is None else choice.coefficients
        if not chosen or max(chosen) >= length or len(set(chosen)) < len(chosen):
            raise ConfigError(
                f"critics.{kind}.coefficients: found {chosen}; {path} has {length} outputs: name"
                f" some of 0 to {length - 1}, each once"
            )
        card = Card(
            name=f"coefficients, {choice.architecture}, {len(chosen)} of {length} outputs",
            source=str(path),
            licence=offer.licence,
            input_side=side,
            sha256=file_sha256(path),
        )
        return cls(kind, card, network, scaling, chosen)

    def read(self, seen: Tensor) -> Tensor:
        found = self.network(self.scaling(resize_images(seen, self.card.input_side)))
        return at_least_single(found)[:, self.chosen]
