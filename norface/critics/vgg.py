"""VGG16 as the judge of appearance (eq. 6): the last two convolutional layers, after ReLU.

Card: VGG16 (Simonyan and Zisserman 2014) in the layout of torchvision and timm, given by path as
.safetensors, or .pth of tensors only. Input 224x224, RGB, scaled by ImageNet's mean and standard
deviation. The paper cites VGGFace2 without saying which network; weights of VGG16 trained on faces
fit when they use this layout and scaling. The licence is that of the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from norface.critics.base import Card, Critic, CriticChoice, find_weights
from norface.critics.catalogue import OFFERS
from norface.files import file_sha256
from norface.images import resize_images
from norface.models.tensors import Standardize, fill_network, read_tensors

SIDE = 224
LAST_TWO = (27, 29)
"Positions of the ReLU after conv5_2 and of the one after conv5_3 among VGG16's features."
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"Channels and convolutions of each block; the side halves between blocks."


class VggCritic(Critic):
    """images (N, 3, H, W), -1..1 => two maps (N, 512, 14, 14), not negative."""

    @classmethod
    def load(cls, kind: str, choice: CriticChoice, parts: dict[Any, Any]) -> VggCritic:
        """Raises WeightsError for a missing file or one that is not VGG16."""
        offer = OFFERS["vgg"]
        path = find_weights(choice, advice=offer.where)
        card = Card(
            name="VGG16, conv5_2 and conv5_3",
            source=str(path),
            licence=offer.licence,
            input_side=SIDE,
            sha256=file_sha256(path),
        )
        return cls(kind, card, load_layers(path))

    def __init__(self, kind: str, card: Card, layers: nn.Sequential):
        super().__init__(kind, card)
        self.layers = layers
        self.scaling = Standardize()

    def read(self, seen: torch.Tensor) -> list[torch.Tensor]:
        """images => the two maps."""
        maps = self.scaling(resize_images(seen, SIDE))
        found = []
        for position, layer in enumerate(self.layers):
            maps = layer(maps)
            if position in LAST_TWO:
                found.append(maps)
        return found


def build_layers() -> nn.Sequential:
    """VGG16's layers up to the last ReLU, numbered as in torchvision and timm."""
    layers: list[nn.Module] = []
    before = 3
    for number, (channels, convolutions) in enumerate(BLOCKS):
        if number > 0:
            layers.append(nn.MaxPool2d(2))
        for _ in range(convolutions):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
    return nn.Sequential(*layers)


def load_layers(path: Path) -> nn.Sequential:
    """VGG16's layers up to the last ReLU, filled from a file. Raises WeightsError."""
    layers = build_layers()
    prefix = "features."
    tensors = read_tensors(path, "VGG16")
    wanted = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    fill_network(layers, wanted, path, "VGG16")
    return layers
