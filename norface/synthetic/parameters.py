"""FaceParameters: everything that one rendered picture depends on."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Light:
    """One key light, a weak fill from the other side, and the sky."""

    azimuth: float = 20.0
    "Degrees, positive from the right of the picture."
    elevation: float = 30.0
    "Degrees above the horizon."
    strength: float = 0.8
    "Of the key light."
    ambient: float = 0.45
    warmth: float = 0.0
    "-1 cold .. 1 warm."


@dataclasses.dataclass(frozen=True)
class Camera:
    """Perspective, and how imprecisely the face was aligned."""

    distance: float = 10.0
    "From the axis through the ears, in 100 mm; near cameras make noses large."
    shift_x: float = 0.0
    "Misplacement in units of the side."
    shift_y: float = 0.0
    scale: float = 1.0
    roll: float = 0.0
    "Degrees by which the aligned face is turned."
    blur: float = 0.0
    "Standard deviation in units of the side."
    noise: float = 0.0
    "Standard deviation of a 256 picture's pixels, 0..1."


@dataclasses.dataclass(frozen=True)
class FaceParameters:
    """A picture: who, doing what, seen how. Equal parameters render equal pixels."""

    identity_seed: int
    intensity: dict[int, float] = dataclasses.field(default_factory=dict)
    "Action unit => 0..5; absent = 0."
    asymmetry: dict[int, float] = dataclasses.field(default_factory=dict)
    "Action unit => -0.3..0.3: the half with u > 0 does (1 + x), the other (1 - x) of the intensity."
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0)
    "Yaw (positive turns the nose to the right of the picture), pitch (positive up), roll; degrees."
    gaze: tuple[float, float] = (0.0, 0.0)
    "Sine of the eyes' turn to the right and up, in the head's frame."
    closed: float = 0.0
    "0 open .. 1 shut: the eyelids in a blink; no labelled action."
    light: Light = Light()
    camera: Camera = Camera()
    background_seed: int = 0

    def __hash__(self) -> int:
        return hash((self.identity_seed, self.pose, self.background_seed, self.camera))


@dataclasses.dataclass(frozen=True)
class RenderedFace:
    """One picture and what is exactly known of it."""

    pixels: np.ndarray
    "uint8 (side, side, 3), RGB."
    landmarks: np.ndarray
    "(68, 2) float64: x, y in units of the side, 0..1 from the left and the top."
    pose: tuple[float, float, float]
    "Yaw, pitch, roll of the face as seen in the picture, degrees."
