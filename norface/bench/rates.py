"""What this machine can do: matrix products, memory; and the seconds of things in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

LARGE = 64 * 2**20
"Floats that no cache holds: 256 MB."
PRODUCT = (2048, 768, 3072)
"Rows, width and hidden width of the product that stands for the matmul rate: ViT-B's."


def time_in_turns(
    actions: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each action in each round, after one round that is not counted.

    Actions take turns within a round, so that other work on the machine meets all of them.
    """
    found: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            if number:
                found[name].append(time.perf_counter() - began)
    return found


def median_ratio(first: list[float], second: list[float]) -> float:
    """Median over the rounds of first / second."""
    return float((torch.tensor(first) / torch.tensor(second)).median())


def copy_memory(source: torch.Tensor, target: torch.Tensor) -> int:
    """Copy; returns the bytes moved, read and written."""
    target.copy_(source)
    return 2 * source.numel() * source.element_size()
