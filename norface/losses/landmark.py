"""Landmark loss on the facial contour (eq. 8)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from norface.losses.distance import Norm, euclidean, mean_square


def landmark_loss(
    normalized: torch.Tensor, target: torch.Tensor, contour: Sequence[int], *, norm: Norm = "mse"
) -> torch.Tensor:
    """Eq. 8: L_lm = |P_t - P_n| over the contour's points only, so that expression stays free.

    normalized, target (N, P, 2) in units of the image side; `contour`: which of the P points.
    mse: mean of squares over points and axes; l2: Euclidean norm of all of them.
    """
    distance = mean_square if norm == "mse" else euclidean
    points = list(contour)
    return distance(normalized[:, points], target[:, points]).mean()
