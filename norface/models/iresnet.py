"""IResNet: the residual network of ArcFace (Deng et al. 2019), 18 to 200 layers.

Tensors are named as in insightface:recognition/arcface_torch/backbones/iresnet.py, so that the
backbones which that code saves can be read. A block is norm, conv, norm, PReLU, conv (which halves
the side in the first of each group), norm, and the shortcut is added without another activation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

SIDE = 112
"Side of its pictures."
DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
"Layers => blocks of each of the four groups."
CHANNELS = (64, 128, 256, 512)


class Block(nn.Module):
    """(N, before, h, w) => (N, after, h / stride, w / stride)."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.prelu = nn.PReLU(after)
        self.conv2 = nn.Conv2d(after, after, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            shortcut = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return shortcut + self.bn3(self.conv2(x))


class IResNet(nn.Module):
    """images (N, 3, 112, 112), -1..1 => (N, embedding), not of unit length."""

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        embedding: int = 512,
        channels: Sequence[int] = CHANNELS,
        side: int = SIDE,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.prelu = nn.PReLU(channels[0])
        groups, width = [], channels[0]
        for after, count in zip(channels, blocks, strict=True):
            group = [Block(width if k == 0 else after, after, 1 + (k == 0)) for k in range(count)]
            groups.append(nn.Sequential(*group))
            width = after
        self.layer1, self.layer2, self.layer3, self.layer4 = groups
        self.bn2 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width * (side // 16) ** 2, embedding)
        self.features = nn.BatchNorm1d(embedding)

    def forward(self, images: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(images)))
        for group in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = group(x)
        flat = self.bn2(x).flatten(1)
        # The last product sums 25,088 numbers: under bf16 it is done in full precision.
        with torch.autocast(images.device.type, enabled=False):
            return self.features(self.fc(flat.to(self.fc.weight.dtype)))


def count_blocks(names: Iterable[str]) -> tuple[int, ...]:
    """Blocks of the four groups, told from the names of tensors; zeros where there are none."""
    counts = [0, 0, 0, 0]
    for name in names:
        if found := re.match(r"layer([1-4])\.(\d+)\.", name):
            group = int(found[1]) - 1
            counts[group] = max(counts[group], int(found[2]) + 1)
    return tuple(counts)
