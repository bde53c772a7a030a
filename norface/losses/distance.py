"""How far two sets of features are apart: the paper prints Euclidean norms, we default to squares.

`mse`: squares, averaged or summed as each equation's file says; smooth at zero.
`l2`: the Euclidean norm of a sample's whole difference, averaged over samples; as printed.
`l1`: absolute differences, averaged; for pixels, where a blurred edge costs as much as a sharp one
      in the wrong place.
"""

from __future__ import annotations

from typing import Literal

import torch

Norm = Literal["mse", "l2"]
PixelNorm = Literal["mse", "l2", "l1"]


def squared_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(N, ...) twice => (N,): squares summed over a sample, in fp32."""
    return (first.float() - second.float()).flatten(1).square().sum(1)


def mean_square(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(N, ...) twice => (N,): mean of squares over a sample, in fp32."""
    return (first.float() - second.float()).flatten(1).square().mean(1)


def mean_absolute(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(N, ...) twice => (N,): mean of absolute differences over a sample, in fp32."""
    return (first.float() - second.float()).flatten(1).abs().mean(1)


def euclidean(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(N, ...) twice => (N,): Euclidean norm of a sample's difference; gradient 0 where equal."""
    difference = (first.float() - second.float()).flatten(1)
    return torch.linalg.vector_norm(difference, dim=1)


DISTANCES = {"mse": mean_square, "l2": euclidean, "l1": mean_absolute}
"Norm of pixels => the distance of two samples."
