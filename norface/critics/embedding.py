"""An embedding learned from triplets of faces as the judge of expression (eq. 9).

Card: by path, either a file of `norface train critic` with objective=triplet (.safetensors that
says its sizes), or a checkpoint of a timm network with a linear layer to the embedding
(`architecture: NAME`; length told from the last layer, side and scaling as timm has them). The
embedding is brought to unit length, as those of FECNet and DLN are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from norface.critics.base import Card, Critic, CriticChoice, find_weights
from norface.critics.catalogue import OFFERS
from norface.errors import WeightsError
from norface.files import file_sha256
from norface.models.expression_embedding import (
    ExpressionEmbedding,
    build_timm,
    load_embedding,
)
from norface.models.tensors import fill_network, read_tensors


class EmbeddingCritic(Critic):
    """images (N, 3, H, W), -1..1 => (N, E) of unit length."""

    def __init__(self, kind: str, card: Card, network: ExpressionEmbedding):
        super().__init__(kind, card)
        self.network = network

    @classmethod
    def load(cls, kind: str, choice: CriticChoice, parts: dict[Any, Any]) -> EmbeddingCritic:
        """Raises WeightsError, and ConfigError for an unknown architecture."""
        offer = OFFERS["embedding"]
        path = find_weights(choice, advice=offer.where)
        if choice.architecture is None:
            network, config = load_embedding(path)
            name = f"expression embedding, {config.backbone}, {config.length} numbers"
        else:
            network = load_timm(path, choice.architecture)
            name = f"expression embedding, {choice.architecture}"
        card = Card(
            name=name,
            source=str(path),
            licence=offer.licence,
            input_side=network.side,
            sha256=file_sha256(path),
        )
        return cls(kind, card, network)

    def read(self, seen: Tensor) -> Tensor:
        return self.network(seen)


def load_timm(path: Path, architecture: str) -> ExpressionEmbedding:
    """A checkpoint of timm with `num_classes` = length of the embedding. Raises WeightsError."""
    network, scaling, side, _ = fill_timm(path, architecture)
    return ExpressionEmbedding(network, scaling, side)


def fill_timm(path: Path, architecture: str) -> tuple[nn.Module, nn.Module, int, int]:
    """The network of timm in a checkpoint, in evaluation mode, with its scaling, the side of its
    pictures and the number of its outputs. Raises WeightsError, and ConfigError for an unknown
    architecture."""
    import timm

    tensors = read_tensors(path, architecture)
    about = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    head = about.classifier if about is not None else None
    weight = tensors.get(f"{head}.weight")
    if about is not None and weight is None:
        raise WeightsError(
            f"{path}: not the weights of {architecture} (no tensor {head}.weight); save the network"
            " that timm.create_model(..., num_classes=length) made"
        )
    length = 0 if weight is None else len(weight)
    with torch.random.fork_rng(devices=[]):
        network, scaling, side = build_timm(architecture, length)
    fill_network(network, tensors, path, f"{architecture} with {length} outputs")
    return network.eval(), scaling, side, length
