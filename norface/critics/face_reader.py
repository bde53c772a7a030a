"""The small networks of the synthetic world as critics (see models/face_networks.py)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from norface.critics.base import Card, Critic, CriticChoice, find_weights
from norface.critics.catalogue import OFFERS, packaged_name
from norface.errors import WeightsError
from norface.files import file_sha256
from norface.models.face_networks import (
    UNITS,
    FaceReader,
    IdentityNetwork,
    fold_norms,
    load_face_network,
)
from norface.synthetic.version import ANY_RENDERER

BROW_UNITS = (1, 2, 4)
"The units that move the brows."
CONTOUR = list(range(17))
"Points of the jaw line among the 68."


class FaceReaderCritic(Critic):
    """The small networks as critics: a reader for landmarks, expression and eyebrow, an identity
    network for identity and perceptual; each runs once a batch.

    Landmarks are in units of the side with `contour` = the jaw line; expression is the intensity
    of all units in fifths (1 = intensity 5), eyebrow that of the units that move the brows.
    """

    contour = CONTOUR

    @classmethod
    def load(cls, kind: str, choice: CriticChoice, parts: dict[Any, Any]) -> FaceReaderCritic:
        packaged, offer = packaged_name(kind), OFFERS["synthetic"]
        wanted = packaged.removesuffix(".safetensors")
        path = find_weights(choice, packaged, offer.where)
        key = ("synthetic", path)
        if key not in parts:
            parts[key] = fold_norms(load_face_network(path))
        network = parts[key]
        if network.config.kind != wanted:
            raise WeightsError(
                f"{path}: holds a network of kind '{network.config.kind}', critic '{kind}' needs"
                f" '{wanted}'"
            )
        drawn = network.renderer != ANY_RENDERER
        card = Card(
            name=f"norface {wanted}, {network.config.side}x{network.config.side}",
            source="norface train critic, on "
            + ("the embedded corpus of synthetic faces" if drawn else "no synthetic face"),
            licence=offer.licence if drawn else "that of the weights file",
            input_side=network.config.side,
            notes="Knows synthetic faces only; use other critics for photographs." if drawn else "",
            sha256=file_sha256(path),
        )
        return cls(kind, card, network)

    def __init__(self, kind: str, card: Card, network: FaceReader | IdentityNetwork):
        super().__init__(kind, card, network.trunk)
        self.network = network

    def read(self, seen: list[Tensor]) -> Any:
        """The trunk's maps => features of this kind."""
        if self.kind == "perceptual":
            return seen[-2:]
        found = self.network.read(seen)
        if isinstance(found, Tensor):
            return found
        if self.kind == "landmarks":
            return found["landmarks"]
        if self.kind == "expression":
            return found["intensity"]
        return found["intensity"][:, [UNITS.index(unit) for unit in BROW_UNITS]]
