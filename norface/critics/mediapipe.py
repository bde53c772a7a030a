"""Critics of real photographs without labels or training: MediaPipe's face mesh and blendshapes.

One trunk, the mesh and what is computed from it, answers three kinds: landmarks (its 478 points,
with the face oval as contour), expression (52 blendshapes) and eyebrow (the five of the brows).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from norface.critics.base import Card, Critic, CriticChoice
from norface.critics.catalogue import OFFERS
from norface.errors import WeightsError
from norface.files import file_sha256
from norface.images import resize_images
from norface.models.mediapipe import (
    BROW_BLENDSHAPES,
    FACE_OVAL,
    HOW_TO_GET,
    Blendshapes,
    FaceMesh,
    find_task_file,
    read_task_file,
)

FACE_SIDE = 216
"The aligned picture's side within the mesh's 256 pixels; around it its border is continued."
MARGIN = (FaceMesh.SIDE - FACE_SIDE) // 2
"""Aligned pictures are cut tighter than the mesh was trained for. With such a margin its points
differ from those on the whole photograph by 0.23 % of the side on average, without one by 0.47 %;
the brow coefficients by 0.028 and 0.072 (22 people)."""


class FaceTrunk(nn.Module):
    """Aligned images (N, 3, H, W), -1..1 => {"points": (N, 478, 2), "blendshapes": (N, 52)}."""

    def __init__(self, mesh: FaceMesh, blendshapes: Blendshapes):
        super().__init__()
        self.mesh, self.blendshapes = mesh, blendshapes

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        # Under bf16 the points would be off by a pixel, so the whole trunk stays in fp32.
        with torch.autocast(images.device.type, enabled=False):
            face = F.pad(resize_images(images.float(), FACE_SIDE), [MARGIN] * 4, mode="replicate")
            points, _ = self.mesh(face)
            points = (points * FaceMesh.SIDE - MARGIN) / FACE_SIDE
            return {"points": points, "blendshapes": self.blendshapes(points)}


class MediapipeCritic(Critic):
    """landmarks (N, 478, 2) in units of the side, expression (N, 52) or eyebrow (N, 5), 0..1."""

    def __init__(self, kind: str, card: Card, trunk: FaceTrunk):
        super().__init__(kind, card, trunk)
        self.contour = list(FACE_OVAL)
        self.brows = list(BROW_BLENDSHAPES)

    @classmethod
    def load(cls, kind: str, choice: CriticChoice, parts: dict[Any, Any]) -> MediapipeCritic:
        """Raises WeightsError where there is no .task file or it is another one than promised."""
        path = find_task_file(choice.weights)
        if path is None:
            raise WeightsError(f"no weights of MediaPipe's networks; {HOW_TO_GET}")
        digest = file_sha256(path)
        if choice.sha256 not in (None, digest):
            raise WeightsError(
                f"{path}: sha256 is {digest[:12]}..., expected {choice.sha256[:12]}...; get the"
                " file again"
            )
        if ("mediapipe", digest) not in parts:
            graphs = read_task_file(path)
            parts["mediapipe", digest] = FaceTrunk(
                FaceMesh(graphs["face_landmarks_detector"]),
                Blendshapes(graphs["face_blendshapes"]),
            )
        card = Card(
            name="MediaPipe face landmarker: mesh of 478 points and 52 blendshapes",
            source="https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker",
            licence=OFFERS["mediapipe"].licence,
            input_side=FaceMesh.SIDE,
            notes=(
                "Trained on real faces seen by phone cameras. Blendshapes are computed from the"
                " points alone, so they see no wrinkles."
            ),
            sha256=digest,
        )
        return cls(kind, card, parts["mediapipe", digest])

    def read(self, seen: dict[str, Tensor]) -> Tensor:
        if self.kind == "landmarks":
            return seen["points"]
        blendshapes = seen["blendshapes"]
        return blendshapes if self.kind == "expression" else blendshapes[:, self.brows]
