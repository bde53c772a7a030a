"""ArcFace as the judge of identity (eq. 7): arcface_torch's backbones, or an ONNX file.

Card: weights by path, .pt or .safetensors of an IResNet with arcface_torch's names (its depth is
told from them), or .onnx of a recognition network, such as w600k_r50.onnx of insightface's
buffalo_l. Input 112x112, RGB, -1..1 (an ONNX file that begins with a subtraction scales 0..255
itself); by its side and the width of its answer it is told from the others of a model pack, such as
2d106det.onnx (192x192 => 212 numbers). Both kinds of insightface's model zoo are for non-commercial
research only, and so every file counts as such until `accept_licence: true` is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from norface.critics.base import Card, Critic, CriticChoice, find_weights
from norface.critics.catalogue import OFFERS
from norface.critics.warp import ARCFACE_SIDE, build_arcface_warp
from norface.errors import WeightsError
from norface.files import file_sha256
from norface.models.face_networks import fold_norms
from norface.models.iresnet import DEPTHS, IResNet, count_blocks
from norface.models.onnx_graph import OnnxGraph, read_onnx
from norface.models.tensors import at_least_single, fill_network, read_tensors

WIDTHS = (64, 128, 256, 512, 1024)
"Numbers in an embedding; sets of landmarks have others (106 points: 212)."


class ArcFaceCritic(Critic):
    """images (N, 3, H, H), -1..1, aligned => (N, D) of unit length."""

    def __init__(self, kind: str, card: Card, network: nn.Module, *, raw: bool = False):
        super().__init__(kind, card)
        self.network, self.raw = network, raw
        self.warp = build_arcface_warp()

    @classmethod
    def load(cls, kind: str, choice: CriticChoice, parts: dict[Any, Any]) -> ArcFaceCritic:
        """Raises WeightsError for a missing file or one that holds no such network."""
        offer = OFFERS["arcface"]
        path = find_weights(choice, advice=offer.where)
        network: nn.Module
        raw = False
        if path.suffix == ".onnx":
            graph = read_onnx(path)
            check_graph(graph, path)
            network, name, raw = graph, f"ArcFace, {path.name}", graph.scales_itself
        else:
            network, name = load_iresnet(path)
        card = Card(
            name=name,
            source=str(path),
            licence=offer.licence,
            research_only=offer.research_only,
            input_side=ARCFACE_SIDE,
            notes="Its crop reaches a little above the aligned picture, whose border is continued.",
            sha256=file_sha256(path),
        )
        return cls(kind, card, network, raw=raw)

    def read(self, seen: Tensor) -> Tensor:
        """images => embeddings."""
        crops = self.warp(seen)
        if self.raw:
            crops = (crops + 1) * 127.5
        return F.normalize(at_least_single(self.network(crops)), dim=1)


def load_iresnet(path: Path) -> tuple[nn.Module, str]:
    """The network in a file of arcface_torch's tensors, and its name. Raises WeightsError."""
    tensors = read_tensors(path, "an IResNet of arcface_torch")
    blocks = count_blocks(tensors)
    layers = next((number for number, one in DEPTHS.items() if one == blocks), None)
    if layers is None or "fc.weight" not in tensors:
        raise WeightsError(
            f"{path}: not an IResNet of arcface_torch (groups of {blocks} blocks); known:"
            f" {', '.join(f'{number} = {one}' for number, one in DEPTHS.items())}"
        )
    network = IResNet(blocks, embedding=len(tensors["fc.weight"]))
    fill_network(network, tensors, path, f"IResNet-{layers}")
    return fold_norms(network.eval()), f"ArcFace, IResNet-{layers}"


def check_graph(network: OnnxGraph, path: Path) -> None:
    """Raises WeightsError for a graph of another input or answer than recognition networks have."""
    side, shape = ARCFACE_SIDE, network.input_shape
    wanted = (3, side, side)
    if len(shape) != 4 or any(s not in (w, None) for s, w in zip(shape[1:], wanted, strict=True)):
        raise WeightsError(
            f"{path}: takes {describe(shape)}; ArcFace takes (N, 3, {side}, {side}): give the"
            " recognition network of the model pack"
        )
    try:
        with torch.no_grad():
            found = tuple(network(torch.zeros(1, *wanted)).shape)
    except Exception as error:
        # A graph that no network of this kind has ends in whatever its operators hit first.
        reason = (str(error).splitlines() or [""])[0]
        raise WeightsError(
            f"{path}: its graph cannot be run ({type(error).__name__}: {reason}); export it again"
        ) from None
    if found not in [(1, width) for width in WIDTHS]:
        raise WeightsError(
            f"{path}: answers {describe((None, *found[1:]))}; ArcFace answers (N, D) with D one of"
            f" {', '.join(map(str, WIDTHS))}: give the recognition network of the model pack"
        )


def describe(shape: Sequence[int | None]) -> str:
    """`(N, 3, 112, 112)`, N for a size that is open."""
    return f"({', '.join('N' if size is None else str(size) for size in shape)})"
