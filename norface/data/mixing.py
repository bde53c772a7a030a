"""Mixup and CutMix: a sample blended with its partner of the same global batch.

    mix = draw_mix(config, sample_rng(seed, epoch, position, "mix"))
    images = mix.blend(images, partner_images)
    labels = mix_labels(labels, partner_labels, mix.share_at(side))

Partners come from the sampler (`GlobalBatchSampler(partners=True)`), so what is mixed with what
depends neither on the number of ranks nor on a resume.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from pydantic import Field

from norface.config import Config


class MixConfig(Config):
    """How samples are mixed. The defaults mix nothing; with both on, a coin decides."""

    mixup: float = Field(0.0, ge=0)
    "a of Beta(a, a), from which the share of the sample itself is drawn (Zhang 2018); 0 = off."
    cutmix: float = Field(0.0, ge=0)
    "The same for CutMix (Yun 2019): the partner's part is a rectangle of its picture; 0 = off."

    @property
    def on(self) -> bool:
        """Whether anything is mixed."""
        return self.mixup > 0 or self.cutmix > 0


@dataclasses.dataclass(frozen=True)
class Mix:
    """How one sample is mixed with its partner."""

    share: float
    "Of the sample itself, 0..1; the partner has the rest."
    box: tuple[float, float, float, float] | None = None
    "CutMix: left, top, right, bottom of the partner's rectangle in units of the side, clipped."

    def pixel_box(self, side: int) -> tuple[int, int, int, int]:
        """The rectangle in pixels; empty for Mixup."""
        if self.box is None:
            return 0, 0, 0, 0
        left, top, right, bottom = (round(edge * side) for edge in self.box)
        return left, top, right, bottom

    def share_at(self, side: int) -> float:
        """Share of the sample in a picture of `side` pixels: of CutMix, that of its pixels."""
        if self.box is None:
            return self.share
        left, top, right, bottom = self.pixel_box(side)
        return 1 - (right - left) * (bottom - top) / side**2

    def blend(self, images: torch.Tensor, partners: torch.Tensor) -> torch.Tensor:
        """Images (..., 3, S, S) and those of the partner => the mixed ones."""
        if self.box is None:
            return torch.lerp(partners, images, self.share)
        left, top, right, bottom = self.pixel_box(images.shape[-1])
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
        return mixed


def draw_mix(config: MixConfig, rng: np.random.Generator) -> Mix:
    """Draw all numbers in a fixed order: one setting never shifts the draws of another."""
    coin, x, y = rng.random(3)
    shares = [float(rng.beta(a, a)) if a > 0 else 1.0 for a in (config.mixup, config.cutmix)]
    if config.cutmix == 0 or (config.mixup > 0 and coin < 0.5):
        return Mix(shares[0])
    half = np.sqrt(1 - shares[1]) / 2
    left, right = np.clip([x - half, x + half], 0, 1).tolist()
    top, bottom = np.clip([y - half, y + half], 0, 1).tolist()
    return Mix(shares[1], (left, top, right, bottom))


def mix_labels(labels: np.ndarray, partners: np.ndarray, share: float) -> np.ndarray:
    """float32 labels of a sample and of its partner => mixed; unknown (NaN) where either is."""
    return (share * labels + (1 - share) * partners).astype(np.float32)


def one_hot(label: int, classes: int) -> np.ndarray:
    """float32 (classes): 1 at the label; all NaN for an unknown one (-1)."""
    if label < 0:
        return np.full(classes, np.nan, np.float32)
    return np.eye(classes, dtype=np.float32)[label]
