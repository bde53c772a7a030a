"""E_f for small budgets: a convolutional network of a few million multiplications a picture."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import nn

from norface.config import Config, Misfit


class ConvConfig(Config):
    """A residual network for aligned faces, small enough for one CPU core."""

    side: int = Field(64, gt=0)
    "Side of the picture in pixels."
    channels: list[int] = Field([16, 32, 48], min_length=1)
    "Channels of the stages; each halves the side."
    blocks: int = Field(1, ge=0)
    "Residual 3x3 convolutions after each halving but the first."
    groups: int = Field(8, ge=0)
    "Groups of GroupNorm, one after each halving; 0 = no normalization."
    width: int = Field(128, gt=0)
    "L: numbers of the pooled representation."

    @model_validator(mode="after")
    def _check_divisions(self) -> ConvConfig:
        if self.side % 2 ** len(self.channels):
            raise Misfit(
                f"'.side' {self.side} cannot be halved {len(self.channels)} times, once for each of"
                " '.channels'"
            )
        for channels in self.channels:
            if self.groups and channels % self.groups:
                raise Misfit(
                    f"'.channels': {channels} is not a multiple of '.groups' {self.groups}"
                )
        return self


class Residual(nn.Module):
    """x + conv(relu(x)), same shape."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        # Half the variance of He's: the sum of both branches keeps its scale without a norm.
        nn.init.kaiming_normal_(self.conv.weight, a=1.0)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(torch.relu(x))


class ConvExtractor(nn.Module):
    """images (N, 3, S, S), -1..1 => representations (N, L).

    Faces are aligned, so the place of a feature says what it is: the last map is projected place by
    place (one linear layer over all of it), not averaged.
    """

    def __init__(self, config: ConvConfig):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        before = 3
        for stage, channels in enumerate(config.channels):
            # A norm takes away what a bias adds; its gradient would be rounding noise.
            halving = nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=not config.groups)
            layers.append(halving)
            if config.groups:
                layers.append(nn.GroupNorm(config.groups, channels))
            layers += [Residual(channels) for _ in range(config.blocks if stage else 0)]
            layers.append(nn.ReLU())
            before = channels
        self.body = nn.Sequential(*layers)
        places = (config.side // 2 ** len(config.channels)) ** 2
        self.project = nn.Linear(before * places, config.width)
        nn.init.kaiming_normal_(self.project.weight, nonlinearity="linear")
        self.norm = nn.LayerNorm(config.width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return self.norm(self.project(self.body(images).flatten(1)))
