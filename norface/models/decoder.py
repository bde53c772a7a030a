"""Facial decoder D_f: tokens => grid => upsampling residual blocks => picture."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import nn
from torch.utils.checkpoint import checkpoint

from norface.config import Config, Misfit

REACH = 0.2
"Largest movement of a pixel of the target, in units of half the side."

BLOCKS = {"coarse": 4, "fine": 2, "finest": 1}
"`paint` of a PatchDecoder => pixels to a side of the blocks that it tells of."

HIDDEN = -4.0
"Cover of the paint at the start, before the sigmoid."


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
    output: Literal["picture", "target", "patches"] = "picture"
    """picture = the last maps are the picture, as in the paper. The others say how the target's
    picture moves and where it is painted over: for budgets of minutes, which see too few pictures
    to learn to draw. target = the maps say it; then `channels` may stop short of the picture's
    side. patches = each token says it of its own pixels, by the small MLP of its place, with no
    convolution at all (`channels` is []): that learns fastest where pixels say what is wanted
    (`clip_pair`)."""
    paint: Literal["coarse", "fine", "finest"] = "coarse"
    """How fine the target is painted over. coarse = smooth: it can open a mouth, but it cannot draw
    the fine texture that pleases judges and no person. `output: target` reads the paint from the
    first doubling, `patches` tells paint and movement for blocks of 4x4 pixels and passes from one
    to the next smoothly. fine = for blocks of 2x2 (`patches` only). finest = from the last map, and
    for each pixel."""

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: list[int]) -> list[int]:
        if min(channels, default=1) < 1:
            raise ValueError("needs positive entries")
        return channels

    @model_validator(mode="after")
    def _check_output(self) -> DecoderConfig:
        if bool(self.channels) == (self.output == "patches"):
            raise Misfit("'.channels' is [] for '.output' patches and not empty for any other")
        if self.paint == "fine" and self.output != "patches":
            raise Misfit("'.paint' fine is for '.output' patches; choose coarse or finest")
        return self


class FacialDecoder(nn.Module):
    """e_n (N, P, L), P = grid^2 => picture (N, 3, S, S), -1..1; every further channel doubles."""

    def __init__(self, config: DecoderConfig, *, width: int, grid: int):
        super().__init__()
        self.grid = grid
        first, last = config.channels[0], config.channels[-1]
        self.enter = nn.Conv2d(width, first, 1)
        self.stages = nn.ModuleList([ResidualBlock(first, config)])
        for before, after in zip(config.channels, config.channels[1:], strict=False):
            self.stages.append(
                nn.Sequential(build_upsampling(before, after, config), ResidualBlock(after, config))
            )
        self.norm = build_norm(last, config.group_width)
        self.painter = TargetPainter(config) if config.output == "target" else None
        self.gradient_checkpointing = False
        if self.painter is None:
            self.leave = nn.Conv2d(last, 3, 3, padding=1)

    def forward(
        self, tokens: torch.Tensor, target: torch.Tensor, original: torch.Tensor
    ) -> torch.Tensor:
        """e_n (N, P, L) and I_t (N, 3, S, S) => (N, 3, S, S).

        `output: picture` ignores I_t; both ignore e_o, `original`, which a PatchDecoder sees.
        """
        # Tokens lie channels last already, so this view needs no copy.
        maps = self.enter(tokens.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2))
        seen = []
        for stage in self.stages:
            if self.gradient_checkpointing and self.training:
                maps = checkpoint(stage, maps, use_reentrant=False)
            else:
                maps = stage(maps)
            seen.append(maps)
        finest = F.silu(self.norm(maps))
        if self.painter is not None:
            return self.painter(target, seen[self.painter.source(len(seen))], finest=finest)
        return torch.tanh(self.leave(finest))


def paint_over(target: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """I_n = (1 - m) warp(I_t, flow) + m paint: a picture of the target, moved and painted over.

    I_t (N, 3, S, S), -1..1, and what is told of each pixel (N, 6, S, S): movement to the right and
    down, paint, cover m; before tanh, tanh and sigmoid => (N, 3, S, S), -1..1.
    """
    target, told = target.float(), told.float()
    flow = REACH * torch.tanh(told[:, :2])
    still = torch.eye(2, 3, device=target.device)[None]
    grid = F.affine_grid(still, [1, 3, *target.shape[-2:]], align_corners=False)
    moved = F.grid_sample(
        target, grid + flow.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )
    cover = torch.sigmoid(told[:, 5:])
    return (1 - cover) * moved + cover * torch.tanh(told[:, 2:5])


class PlaceLinear(nn.Module):
    """(P, N, L) => (P, N, M): each of P places has a linear map of its own."""

    def __init__(self, places: int, inputs: int, outputs: int):
        super().__init__()
        bound = 1 / inputs**0.5
        self.weight = nn.Parameter(torch.empty(places, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(places, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class PatchDecoder(nn.Module):
    """D_f of `output: patches`: e_n (N, P, L), P = grid^2, and I_t => I_n, each token its pixels.

    Every place of the aligned face has a small MLP of its own (hidden width 2 L): one for all would
    have to tell eyes from mouths by the L numbers of a token that also say what they do.
    It sees the original's token of the place beside the merged one, which a LayerNorm has scaled.
    A fresh one leaves the target as it is, but for a hint of movement and paint.
    `block`: tokens tell of blocks of so many pixels to a side (as far as they divide a patch),
    between whose centres all is interpolated.
    """

    def __init__(self, *, width: int, grid: int, patch: int, block: int = 1):
        super().__init__()
        self.grid = grid
        self.block = math.gcd(block, patch)
        self.told = patch // self.block
        self.gradient_checkpointing = False
        hidden = 2 * width
        self.enter = PlaceLinear(grid**2, 2 * width, hidden)
        self.tell = PlaceLinear(grid**2, hidden, 6 * self.told**2)
        nn.init.normal_(self.tell.weight, std=0.02 / hidden**0.5)
        nn.init.zeros_(self.tell.bias)
        with torch.no_grad():
            self.tell.bias[..., 5 * self.told**2 :] = HIDDEN

    def forward(
        self, tokens: torch.Tensor, target: torch.Tensor, original: torch.Tensor
    ) -> torch.Tensor:
        """e_n, I_t (N, 3, S, S), S = grid * patch, and e_o; e (N, P, L) => (N, 3, S, S)."""
        seen = torch.cat([tokens, original], 2).transpose(0, 1)
        told = self.tell(F.gelu(self.enter(seen))).transpose(0, 1)
        told = told.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        told = F.pixel_shuffle(told, self.told)
        if self.block > 1:
            told = F.interpolate(
                told.float(), scale_factor=self.block, mode="bilinear", align_corners=False
            )
        return paint_over(target, told)


class TargetPainter(nn.Module):
    """`output: target`: the picture of the target as maps say. See paint_over.

    A fresh painter leaves the target as it is, but for a hint of paint.
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.finest = config.paint == "finest"
        channels = config.channels[self.source(len(config.channels))]
        self.flow = nn.Conv2d(config.channels[-1], 2, 3, padding=1)
        self.norm = build_norm(channels, config.group_width)
        self.paint = nn.Conv2d(channels, 4, 3, padding=1)
        for parameter in self.flow.parameters():
            nn.init.zeros_(parameter)
        assert self.paint.bias is not None
        with torch.no_grad():
            self.paint.bias[3] = HIDDEN

    def source(self, count: int) -> int:
        """Number of the map, among `count` from the token grid up, that the paint is read from."""
        return count - 1 if self.finest else min(1, count - 1)

    def forward(
        self, target: torch.Tensor, painting: torch.Tensor, *, finest: torch.Tensor
    ) -> torch.Tensor:
        """I_t (N, 3, S, S), the map (N, C, h, w) that the paint is read from, and the last one,
        activated (N, D, k, k) => (N, 3, S, S), -1..1."""
        size = target.shape[-2:]
        enlarge = lambda maps: F.interpolate(
            maps.float(), size, mode="bilinear", align_corners=False
        )
        flow, paint = self.flow(finest), self.paint(F.silu(self.norm(painting)))
        return paint_over(target, torch.cat([enlarge(flow), enlarge(paint)], 1))


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
