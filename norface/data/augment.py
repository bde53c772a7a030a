"""Augmentation of pixels, drawn for a sample and then applied to every picture of it.

    change = draw_augmentation(config, sample_rng(seed, epoch, position, "augment"))
    original, normalized = change.apply(original), change.apply(normalized)
    landmarks = change.move(landmarks)

What is drawn depends on the generator and the config alone, never on the picture or its size, so an
original and its normalized picture get the same flip, and landmarks can follow.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from pydantic import Field

from norface.config import Config
from norface.images import mirror_pixels


class AugmentConfig(Config):
    """How far pictures are changed. The defaults change nothing; 0 switches a change off."""

    flip: float = Field(0.0, ge=0, le=1)
    "Probability of mirroring."
    shift: float = Field(0.0, ge=0, le=0.5)
    "Largest shift along x and along y, in units of the side."
    scale: float = Field(0.0, ge=0, lt=1)
    "Largest relative change of size: 0.1 draws factors from 1/1.1 to 1.1."
    rotate: float = Field(0.0, ge=0, le=180)
    "Largest rotation to either side, in degrees."
    brightness: float = Field(0.0, ge=0, le=1)
    "Largest change of brightness, in units of the full range."
    contrast: float = Field(0.0, ge=0, lt=1)
    "Largest relative change of contrast: 0.2 draws factors from 1/1.2 to 1.2."
    saturation: float = Field(0.0, ge=0, le=1)
    "Largest change of saturation: 0.3 draws factors from 0.7 to 1.3; 1 reaches grey."
    blur: float = Field(0.0, ge=0, le=1)
    "Probability of a Gaussian blur."
    blur_sigma: float = Field(0.01, gt=0, le=0.1)
    "Largest standard deviation of the blur, in units of the side."
    noise: float = Field(0.0, ge=0, le=0.5)
    "Largest standard deviation of Gaussian noise, in units of the full range."
    cutout: float = Field(0.0, ge=0, le=1)
    "Probability of a grey square anywhere on the picture."
    cutout_side: float = Field(0.3, gt=0, le=1)
    "Largest side of that square, in units of the picture's side."


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The changes drawn for one sample. Lengths are in units of the side, colours of 0..255."""

    matrix: np.ndarray
    "(2, 3): a point (x, y), 0..1 from the left and from the top, => where it is afterwards."
    mirrored: bool
    "Whether left and right changed places: left and right landmarks must change names, too."
    gain: float
    offset: float
    saturation: float
    blur_sigma: float
    noise: float
    noise_seed: int
    hole: tuple[float, float, float] | None
    "Centre x, centre y, side of the grey square."

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (S, S, 3), 0..255 => the same, changed; edges are repeated outwards."""
        side = pixels.shape[0]
        mirror_only = np.abs(self.matrix - [[-1, 0, 1], [0, 1, 0]]).max() < 1e-9
        if mirror_only:
            pixels = mirror_pixels(pixels)
        elif np.abs(self.matrix - np.eye(2, 3)).max() > 1e-9:
            pixels = cv2.warpAffine(
                pixels,
                self.pixel_matrix(side),
                (side, side),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        if self.blur_sigma * side > 0.1:
            pixels = cv2.GaussianBlur(pixels, (0, 0), self.blur_sigma * side)
        pixels = self._recolour(pixels)
        if self.hole is not None:
            x, y, width = self.hole
            left, top = (max(round((centre - width / 2) * side), 0) for centre in (x, y))
            right, bottom = (round((centre + width / 2) * side) for centre in (x, y))
            pixels = pixels.copy()
            pixels[top:bottom, left:right] = 128
        return pixels

    def pixel_matrix(self, side: int) -> np.ndarray:
        """`matrix` for the centres of pixels of a picture of `side` pixels."""
        matrix = self.matrix.copy()
        matrix[:, 2] = matrix[:, 2] * side + (matrix[:, :2].sum(1) - 1) * 0.5
        return matrix

    def move(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2), 0..1, => where they are afterwards; their order is kept."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def _recolour(self, pixels: np.ndarray) -> np.ndarray:
        plain = self.gain == 1 and self.offset == 0 and self.saturation == 1
        if plain and self.noise == 0:
            return pixels
        colours = pixels.astype(np.float32)
        if self.saturation != 1:
            grey = (colours @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
            colours = grey + self.saturation * (colours - grey)
        colours = (colours - 127.5) * self.gain + (127.5 + self.offset)
        if self.noise:
            generator = np.random.Generator(np.random.PCG64(self.noise_seed))
            colours += self.noise * generator.standard_normal(colours.shape, np.float32)
        return np.clip(np.rint(colours), 0, 255).astype(np.uint8)


def draw_augmentation(
    config: AugmentConfig, rng: np.random.Generator, *, mirrored: bool | None = None
) -> Augmentation:
    """Draw all changes, in a fixed order: one setting never shifts the draws of another.

    `mirrored` is for pictures that must be mirrored alike; None = drawn with the rest.
    """
    uniform = rng.uniform(-1, 1, 9)
    chance = rng.random(6)
    noise_seed = int(rng.integers(2**63))
    if mirrored is None:
        mirrored = bool(chance[0] < config.flip)
    factor = (1 + config.scale) ** uniform[2]
    angle = np.deg2rad(config.rotate * uniform[3])
    turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        turn = turn @ np.diag([-1.0, 1.0])
    centre = np.array([0.5, 0.5])
    move = centre - turn @ centre + config.shift * uniform[:2]
    hole = None
    if chance[2] < config.cutout:
        width = config.cutout_side * (0.5 + 0.5 * chance[3])
        hole = (float(chance[4]), float(chance[5]), float(width))
    return Augmentation(
        matrix=np.column_stack([turn, move]),
        mirrored=mirrored,
        gain=float((1 + config.contrast) ** uniform[4]),
        offset=float(255 * config.brightness * uniform[5]),
        saturation=float(1 + config.saturation * uniform[6]),
        blur_sigma=float(config.blur_sigma * abs(uniform[7])) if chance[1] < config.blur else 0.0,
        noise=float(255 * config.noise * abs(uniform[8])),
        noise_seed=noise_seed,
        hole=hole,
    )
