"""L_cla of equation (11): the task's own loss, over the labels that are there, and the sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from norface.losses.entropy import global_loss, local_loss
from norface.losses.importance import importance_loss
from norface.models.moe import RouterStatistics


def detection_loss(
    logits: torch.Tensor, labels: torch.Tensor, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Binary cross-entropy: logits (B, A), labels (B, A) in {0, 1} or NaN = missing.

    class_weights (A) weigh the units; the mean is over the labels that are there (0 where none is).
    """
    known = ~labels.isnan()
    target = labels.nan_to_num(0.0)
    each = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return _masked_mean(each, known, class_weights)


def intensity_loss(
    values: torch.Tensor, labels: torch.Tensor, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """L2: mean square of values (B, A) - labels (B, A) in 0..5, NaN = missing."""
    known = ~labels.isnan()
    each = (values.float() - labels.nan_to_num(0.0)).square()
    return _masked_mean(each, known, class_weights)


def emotion_loss(
    logits: torch.Tensor, labels: torch.Tensor, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy: logits (B, C), labels (B) int64 with -1 = missing; class_weights (C).

    Labels may also be shares of the classes, float (B, C), of mixed samples; NaN = missing.
    """
    if labels.is_floating_point():
        known, shares = ~labels.isnan().any(1), labels.nan_to_num(0.0)
        each = functional.cross_entropy(logits.float(), shares, reduction="none")
        return _masked_mean(each, known, None if class_weights is None else shares @ class_weights)
    known = labels >= 0
    each = functional.cross_entropy(logits.float(), labels.clamp_min(0), reduction="none")
    return _masked_mean(each, known, None if class_weights is None else class_weights[labels])


def _masked_mean(
    each: torch.Tensor, known: torch.Tensor, weights: torch.Tensor | None
) -> torch.Tensor:
    kept = torch.where(known, each if weights is None else each * weights, 0.0)
    return kept.sum() / known.sum().clamp_min(1)


def emotion_weights(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Weights (C) inverse to a class's count in labels (N), -1 = missing; mean 1 over samples."""
    counts = torch.bincount(labels[labels >= 0], minlength=classes).float()
    return counts.sum() / (counts.clamp_min(1) * max(int((counts > 0).sum()), 1))


def router_losses(blocks: Sequence[RouterStatistics]) -> dict[str, torch.Tensor]:
    """imp (12), global and local (13) over the global batch, averaged over the MoE blocks."""
    if not blocks:
        return {}
    terms = {
        "imp": [importance_loss(block.gates) for block in blocks],
        "global": [global_loss(block.probabilities) for block in blocks],
        "local": [local_loss(block.probabilities) for block in blocks],
    }
    return {name: torch.stack(values).mean() for name, values in terms.items()}
