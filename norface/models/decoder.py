"""Facial decoder D_f: tokens => grid => upsampling residual blocks => picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import nn

from norface.config import Config


class DecoderConfig(Config):
    """Sizes of the decoder. Each entry of `channels` after the first doubles the side."""

    channels: list[int] = [512, 256, 128, 64, 32]
    "Channels at the token grid and after each doubling; the last is at the picture's side."
    convolutions: int = Field(2, ge=1)
    "3x3 convolutions of a residual block; 1 is the lean choice for small pictures."
    upsampling: str = Field("nearest", pattern="^(nearest|shuffle)$")
    "nearest = repeat, then a 3x3 convolution; shuffle = 1x1 convolution to sub-pixels, cheaper."
    group_width: int = Field(16, gt=0)
    "Channels of a normalization group, at most."

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: list[int]) -> list[int]:
        if not channels or min(channels) < 1:
            raise ValueError("needs at least one entry, all of them positive")
        return channels


class FacialDecoder(nn.Module):
    """e_n (N, P, L), P = grid^2 => picture (N, 3, S, S), -1..1; every further channel doubles."""

    def __init__(self, config: DecoderConfig, *, width: int, grid: int):
        super().__init__()
        self.grid = grid
        first, last = config.channels[0], config.channels[-1]
        self.enter = nn.Conv2d(width, first, 1)
        layers: list[nn.Module] = [ResidualBlock(first, config)]
        for before, after in zip(config.channels, config.channels[1:], strict=False):
            layers += [build_upsampling(before, after, config), ResidualBlock(after, config)]
        self.body = nn.Sequential(*layers)
        self.norm = build_norm(last, config.group_width)
        self.leave = nn.Conv2d(last, 3, 3, padding=1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, P, L) => (N, 3, S, S)."""
        # Tokens lie channels last already, so this view needs no copy.
        grid = tokens.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        maps = self.body(self.enter(grid))
        return torch.tanh(self.leave(F.silu(self.norm(maps))))


class ResidualBlock(nn.Module):
    """maps (N, C, h, w) => maps + convolutions of them; each is norm, SiLU, 3x3."""

    def __init__(self, channels: int, config: DecoderConfig):
        super().__init__()
        self.branch = nn.Sequential()
        for number in range(config.convolutions):
            convolution = nn.Conv2d(channels, channels, 3, padding=1)
            if number == config.convolutions - 1:
                # A block starts as the identity: a fresh deep decoder passes gradients through.
                for parameter in convolution.parameters():
                    nn.init.zeros_(parameter)
            self.branch.extend([build_norm(channels, config.group_width), nn.SiLU(), convolution])

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) => (N, C, h, w)."""
        return maps + self.branch(maps)


def build_upsampling(before: int, after: int, config: DecoderConfig) -> nn.Module:
    """(N, before, h, w) => (N, after, 2h, 2w)."""
    if config.upsampling == "shuffle":
        return nn.Sequential(nn.Conv2d(before, 4 * after, 1), nn.PixelShuffle(2))
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(before, after, 3, padding=1)
    )


def build_norm(channels: int, group_width: int) -> nn.GroupNorm:
    """Group normalization with as many groups as `group_width` and divisibility allow."""
    groups = max(1, channels // group_width)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=1e-6)
