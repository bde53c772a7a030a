"""VGG16 as the judge of appearance (eq. 6): the last two convolutional layers, after ReLU.

Card: VGG16 (Simonyan and Zisserman 2014) in the layout of torchvision and timm, given by path as
.safetensors, or .pth of tensors only. Input 224x224, RGB, scaled by ImageNet's mean and standard
deviation. The paper cites VGGFace2 without saying which network; weights of VGG16 trained on faces
fit when they use this layout and scaling. The licence is that of the file.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from norface.critics.base import Card, Critic, CriticChoice, find_weights
from norface.errors import WeightsError
from norface.images import resize_images

SIDE = 224
LAST_TWO = (27, 29)
"Positions of the ReLU after conv5_2 and of the one after conv5_3 among VGG16's features."
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"Channels and convolutions of each block; the side halves between blocks."
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ADVICE = (
    "save timm's or torchvision's vgg16 as .safetensors where there is a network,"
    " or set losses.perc=null"
)


class VggCritic(Critic):
    """images (N, 3, H, W), -1..1 => two maps (N, 512, 14, 14), not negative."""

    scale: torch.Tensor
    shift: torch.Tensor

    @classmethod
    def load(cls, kind: str, choice: CriticChoice, parts: dict[Any, Any]) -> VggCritic:
        """Raises WeightsError for a missing file or one that is not VGG16."""
        path = find_weights(choice, advice=ADVICE)
        card = Card(
            name="VGG16, conv5_2 and conv5_3",
            source=str(path),
            licence="that of the weights file",
            input_side=SIDE,
            sha256=choice.sha256,
        )
        return cls(kind, card, load_layers(path))

    def __init__(self, kind: str, card: Card, layers: nn.Sequential):
        super().__init__(kind, card)
        self.layers = layers
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        # As in the encoder: one scale and one shift from -1..1 to what the weights expect.
        self.register_buffer("scale", (0.5 / std).view(1, 3, 1, 1))
        self.register_buffer("shift", ((0.5 - mean) / std).view(1, 3, 1, 1))

    def read(self, seen: torch.Tensor) -> list[torch.Tensor]:
        """images => the two maps."""
        maps = resize_images(seen, SIDE) * self.scale + self.shift
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
    """VGG16's layers up to the last ReLU, filled from a file."""
    layers = build_layers()
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        prefix = "features."
        wanted = {
            name.removeprefix(prefix): tensor.float()
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        layers.load_state_dict(wanted)
    except (
        SafetensorError,
        OSError,
        pickle.UnpicklingError,
        RuntimeError,
        AttributeError,
    ) as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{path}: not the weights of VGG16 ({reason}); {ADVICE}") from None
    return layers
