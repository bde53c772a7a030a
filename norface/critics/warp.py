"""From the aligned picture to the crop that a borrowed network was trained on, differentiably."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from norface.data.alignment import TEMPLATE, fit_similarity, invert_matrix
from norface.models.tensors import at_least_single

ARCFACE_SIDE = 112
ARCFACE_POINTS = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
"""(5, 2): x, y of right eye, left eye, nose tip, right and left mouth corner in pixels (centres at
.0) of the 112x112 crop that ArcFace networks are trained on (insightface:utils/face_align.py)."""


class TemplateWarp(nn.Module):
    """Aligned images (N, 3, H, H) => the crops (N, 3, side, side) of another template.

    One fixed similarity, the nearest by least squares between the five points of our template and
    those of the other; what the crop asks for beyond the aligned picture continues its border.
    `points` (5, 2) are in units of the other crop's side.
    """

    theta: Tensor

    def __init__(self, points: np.ndarray, side: int):
        super().__init__()
        self.side = side
        there = fit_similarity(TEMPLATE, points)
        self.scale = math.sqrt(abs(np.linalg.det(there[:, :2])))
        back = invert_matrix(there)
        # Units of the side 0..1 become the -1..1 of grids: u = 2 x - 1 on both sides of the map.
        turn, shift = back[:, :2], back[:, 2]
        moved = 2 * shift + turn.sum(1) - 1
        theta = np.hstack([turn, moved[:, None]])
        self.register_buffer("theta", torch.tensor(theta[None]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """In fp32 at least; areas are averaged when shrinking, as data/alignment.py does."""
        with torch.autocast(images.device.type, enabled=False):
            images = at_least_single(images)
            finer = max(1, math.ceil(0.75 * images.shape[-1] / (self.scale * self.side)))
            size = [len(images), 3, self.side * finer, self.side * finer]
            theta = self.theta.to(images).expand(len(images), 2, 3)
            grid = F.affine_grid(theta, size, align_corners=False)
            crops = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
            return F.avg_pool2d(crops, finer) if finer > 1 else crops


def build_arcface_warp() -> TemplateWarp:
    """The way to ArcFace's crop."""
    return TemplateWarp((ARCFACE_POINTS + 0.5) / ARCFACE_SIDE, ARCFACE_SIDE)
