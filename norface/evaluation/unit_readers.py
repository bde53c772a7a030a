"""Readers of action units, pose and expression that no loss of F_nor uses: they only measure.

reader = choose_reader("auto", {"disfa"})
reader.read(pixels).intensity          # (N, len(reader.units)), 0..5

The packaged one knows synthetic faces. Of photographs MediaPipe speaks, by its blendshapes, without
training on action units: RESTING, seen on 40 people at rest, brings what they answer to the scale
of intensities. It is a stand-in: AU6 and AU23, for example, it never sees.
"""

from __future__ import annotations

import abc
from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from norface.critics.base import CriticChoice, CriticsConfig, build_critics, find_weights
from norface.critics.mediapipe import FACE_SIDE, MARGIN, FaceTrunk
from norface.data.labels import ACTION_UNITS
from norface.errors import WeightsError
from norface.images import resize_images, to_image
from norface.models.face_networks import FaceReader, IdentityNetwork, load_face_network
from norface.models.mediapipe import (
    BLENDSHAPES,
    FACE_OVAL,
    HOW_TO_GET,
    LEFT_CHEEK,
    RIGHT_CHEEK,
    find_task_file,
)

SYNTHETIC = "synthetic"
"The corpus whose faces the packaged networks know."
ReaderName = Literal["auto", "packaged", "mediapipe"]
BATCH = 64

# fmt: off
RESTING: dict[int, tuple[tuple[str, ...], float]] = {
    1: (("browInnerUp",), 0.2),
    2: (("browOuterUpLeft", "browOuterUpRight"), 0.2),
    4: (("browDownLeft", "browDownRight"), 0.3),
    5: (("eyeWideLeft", "eyeWideRight"), 0.02),
    7: (("eyeSquintLeft", "eyeSquintRight"), 0.5),
    9: (("noseSneerLeft", "noseSneerRight"), 0.0),
    10: (("mouthUpperUpLeft", "mouthUpperUpRight"), 0.0),
    12: (("mouthSmileLeft", "mouthSmileRight"), 0.05),
    14: (("mouthDimpleLeft", "mouthDimpleRight"), 0.05),
    15: (("mouthFrownLeft", "mouthFrownRight"), 0.01),
    17: (("mouthShrugLower",), 0.6),
    20: (("mouthStretchLeft", "mouthStretchRight"), 0.01),
    24: (("mouthPressLeft", "mouthPressRight"), 0.2),
    25: (("mouthLowerDownLeft", "mouthLowerDownRight"), 0.0),
    26: (("jawOpen",), 0.03),
}
# fmt: on
"""Unit => its blendshapes and what 95 of 100 people at rest stay below (40 neutral photographs);
from there to 1 is read as 0..5."""
RESTING_PITCH = 6.7
"Degrees by which the line from forehead to chin leans back in those photographs."


class Reading(NamedTuple):
    """What is read from N pictures."""

    intensity: np.ndarray
    "(N, U) of the reader's units, on the scale 0..5, not clipped above."
    pose: np.ndarray
    "(N, 3): yaw, pitch, roll in degrees."
    expression: np.ndarray
    "(N, E): numbers whose Euclidean distance says how far two expressions are apart."


class UnitReader(abc.ABC):
    """Reads aligned faces, a batch at a time."""

    name: str
    units: tuple[int, ...]
    blendshapes: tuple[str, ...] = ()
    "Names of the numbers in `expression`, where they have names."

    def read(self, pixels: np.ndarray) -> Reading:
        """uint8 (N, S, S, 3), any side => what is seen."""
        with torch.no_grad():
            starts = range(0, len(pixels), BATCH)
            parts = [self.look(to_image(pixels[start : start + BATCH])) for start in starts]
        return Reading(*map(np.concatenate, zip(*parts, strict=True)))

    @abc.abstractmethod
    def look(self, images: torch.Tensor) -> Reading:
        """images (N, 3, S, S), -1..1 => what is seen."""


class PackagedReader(UnitReader):
    """The reader of synthetic faces that ships with the package to judge.

    On straight synthetic faces of people that it never met it calls 92 % of those active that show
    a unit at 2 or more, and 7 % of those at rest (120 faces); r = 0.76.
    """

    name = "packaged reader of synthetic faces"
    units = tuple(ACTION_UNITS)

    def __init__(self) -> None:
        network = load_packaged("judge-reader.safetensors")
        assert isinstance(network, FaceReader)
        self.network = network

    def look(self, images: torch.Tensor) -> Reading:
        found = self.network(images)
        intensity = 5 * found["intensity"].numpy()
        return Reading(intensity.clip(min=0), 30 * found["pose"].numpy(), intensity)


class MediapipeReader(UnitReader):
    """MediaPipe's mesh and blendshapes. Raises WeightsError where they are not there."""

    name = "MediaPipe blendshapes"
    units = tuple(RESTING)
    blendshapes = BLENDSHAPES

    def __init__(self) -> None:
        config = CriticsConfig(expression=CriticChoice(source="mediapipe"))
        trunk = build_critics(config)["expression"].trunk
        assert isinstance(trunk, FaceTrunk)
        self.trunk = trunk

    def look(self, images: torch.Tensor) -> Reading:
        face = F.pad(resize_images(images, FACE_SIDE), [MARGIN] * 4, mode="replicate")
        points = self.trunk.mesh.find_solid(face)
        flat = (points[..., :2] * self.trunk.mesh.SIDE - MARGIN) / FACE_SIDE
        blendshapes = self.trunk.blendshapes(flat).numpy()
        return Reading(to_intensity(blendshapes), pose_of(points.numpy()), blendshapes)


def to_intensity(blendshapes: np.ndarray) -> np.ndarray:
    """(N, 52), 0..1 => (N, len(RESTING)), 0..5: the mean of a unit's coefficients above rest."""
    columns = []
    for names, rest in RESTING.values():
        value = blendshapes[:, [BLENDSHAPES.index(name) for name in names]].mean(axis=1)
        columns.append(5 * (value - rest).clip(min=0) / (1 - rest))
    return np.stack(columns, axis=1)


def pose_of(points: np.ndarray) -> np.ndarray:
    """Mesh points (N, 478, 3) => yaw, pitch, roll (N, 3) in degrees.

    From the lines cheek to cheek and forehead to chin; yaw positive turns the nose to the right of
    the picture, pitch positive up. On synthetic faces r is 0.99, 0.82 and 0.86 with the truth.
    """
    across = points[:, LEFT_CHEEK] - points[:, RIGHT_CHEEK]
    down = points[:, FACE_OVAL[len(FACE_OVAL) // 2]] - points[:, FACE_OVAL[0]]
    yaw = np.arctan2(across[:, 2], across[:, 0])
    pitch = np.arctan2(down[:, 2], down[:, 1])
    roll = np.arctan2(across[:, 1], across[:, 0])
    return np.degrees(np.stack([yaw, np.radians(RESTING_PITCH) - pitch, roll], axis=1))


def load_packaged(name: str) -> FaceReader | IdentityNetwork:
    """A network that ships. Those named judge-* measure: of another seed than those in the losses.

    Raises WeightsError for a file that is missing or is not what SHA256SUMS promises.
    """
    return load_face_network(find_weights(CriticChoice(), name, "reinstall norface"))


def choose_reader(name: ReaderName, corpora: Collection[str]) -> UnitReader:
    """The reader of that name; auto = by the corpora that the faces are from.

    Raises WeightsError where the faces are photographs and MediaPipe's file is not there.
    """
    if name == "packaged" or (name == "auto" and set(corpora) == {SYNTHETIC}):
        return PackagedReader()
    if find_task_file() is None:
        raise WeightsError(f"no reader of photographs: {HOW_TO_GET}")
    return MediapipeReader()
