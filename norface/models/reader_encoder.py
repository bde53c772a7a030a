"""Face encoder for small budgets: a reader of faces that was trained before, with pixels beside it.

The paper starts E_s from a masked auto-encoder of many faces. Where a few minutes on a CPU must do,
the trunk of the small reader (face_networks.py, `norface train critic`) takes that part: it knows
expressions of people it never met, and the rest of F_nor learns to draw them.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from norface.config import Config, Misfit
from norface.images import resize_images
from norface.models.face_networks import UNITS, FaceNetworkConfig, FaceReader, build_face_network


class ReaderEncoderConfig(Config):
    """Sizes of the encoder; `reader` must be that of the weights it starts from."""

    kind: Literal["reader"]
    "A small convolutional reader."
    reader: FaceNetworkConfig = FaceNetworkConfig()
    "The network below."
    side: int = Field(0, ge=0)
    """Side of the picture in pixels, a multiple of `grid`; 0 = the reader's. The reader sees the
    picture in its own size, a token its own pixels."""
    grid: int = Field(8, gt=0)
    "Tokens along a side; P = grid^2. One of the reader's maps must have this side."
    width: int = Field(128, gt=0)
    "L: numbers a token."
    freeze: bool = True
    "Leave the reader as it is and train only what turns its maps into tokens."
    original: Literal["all", "intensity"] = "all"
    """What the tokens of an original say: all that those of a target do, or only the intensities
    of its action units, so that nothing of the person or the pose can pass."""

    @model_validator(mode="before")
    @classmethod
    def _take_side(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("side"):
            return values
        reader = values.get("reader", {})
        if isinstance(reader, FaceNetworkConfig):
            return {**values, "side": reader.side}
        if isinstance(reader, dict):
            return {**values, "side": reader.get("side", FaceNetworkConfig().side)}
        return values

    @model_validator(mode="after")
    def _check_sizes(self) -> ReaderEncoderConfig:
        sides = [self.reader.side // 2 ** (i + 1) for i in range(len(self.reader.channels))]
        if self.reader.kind != "reader":
            raise Misfit("'.reader.kind' must be reader")
        if self.width % 4:
            raise Misfit(f"'.width' {self.width} is not a multiple of 4")
        if self.grid not in sides:
            raise Misfit(f"'.grid' {self.grid} is the side of no map; the maps have {sides}")
        if self.side % self.grid:
            raise Misfit(f"'.side' {self.side} is not a multiple of '.grid' {self.grid}")
        return self

    @property
    def patch(self) -> int:
        """Side in pixels of what a token stands for."""
        return self.side // self.grid


class ReaderEncoder(nn.Module):
    """E_s: images (N, 3, S, S), -1..1 => tokens (N, P, L), row by row.

    A token is a linear function of its place in the reader's maps of the grid's side and below, of
    its own pixels, of the reader's last layer and of the intensities that it reads; plus learned
    numbers for its place. Each of these sources is brought to one scale first.
    """

    PER_SPREAD = 4.0
    "Intensities vary by about a quarter (in fifths of the scale)."

    TEMPERATURE = 100.0
    "Of the sines of place: the longest wave is some grids long."

    def __init__(self, config: ReaderEncoderConfig):
        from timm.layers import build_sincos2d_pos_embed

        super().__init__()
        self.config = config
        reader = build_face_network(config.reader)
        assert isinstance(reader, FaceReader)
        self.reader = reader.requires_grad_(not config.freeze)
        self.first = (config.reader.side // config.grid).bit_length() - 2
        channels = sum(config.reader.channels[self.first :]) + 3 * config.patch**2
        self.local = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, config.width))
        hidden = config.reader.hidden
        self.whole = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, config.width))
        self.intensity = nn.Linear(len(UNITS), config.width, bias=False)
        self.place = nn.Parameter(
            build_sincos2d_pos_embed(
                [config.grid, config.grid], config.width, temperature=self.TEMPERATURE
            )
        )
        if config.original == "intensity":
            shape = (config.grid**2, len(UNITS), config.width)
            self.action = nn.Parameter(torch.randn(shape) / len(UNITS) ** 0.5)
        self.norm = nn.LayerNorm(config.width)
        self.train()

    def train(self, mode: bool = True) -> ReaderEncoder:
        """Batch normalization keeps the statistics that it came with, on all ranks alike."""
        super().train(mode)
        self.reader.train(False)
        return self

    def read(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """images (N, 3, R, R), R = the reader's side => the reader's maps, its last layer (N, H)
        and intensities (N, 17) in fifths of the scale."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze):
            maps = self.reader.trunk(images)
            whole = self.reader.represent(maps, self.reader.landmarks(maps))
            return maps, whole, self.reader.intensity(whole)

    def tell_intensity(
        self, images: torch.Tensor, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """images (N, 3, S, S), -1..1 => tokens (N, P, L) of nothing but the intensities.

        Each place has its own linear map of them: a brow is not moved by what moves the mouth.
        They are the mean of what is read from the picture and from its mirror image, which errs
        less. noise (N, 17), in fifths of the scale, is added to it.
        """
        images = resize_images(images, self.config.reader.side)
        _, _, intensity = self.read(torch.cat([images, images.flip(3)]))
        intensity = torch.stack(intensity.chunk(2)).mean(0)
        if noise is not None:
            intensity = intensity + noise
        told = torch.einsum("nu,pul->npl", self.PER_SPREAD * intensity, self.action)
        return told + self.place

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images (N, 3, S, S), -1..1 => tokens (N, P, L)."""
        maps, whole, intensity = self.read(resize_images(images, self.config.reader.side))
        size = (self.config.grid, self.config.grid)
        seen = [functional.interpolate(one, size) for one in maps[self.first :]]
        pixels = resize_images(images, self.config.side)
        seen.append(functional.pixel_unshuffle(pixels, self.config.patch))
        local = self.local(torch.cat(seen, 1).flatten(2).transpose(1, 2))
        face = self.whole(whole) + self.intensity(self.PER_SPREAD * intensity)
        return self.norm(local + face[:, None] + self.place)
