"""What a step of stage `cla` costs."""

from __future__ import annotations

import torch

from norface.models.classifier import Classifier
from norface.models.cost import measure_cost
from norface.models.moe import MixtureOfExperts


def count_operations(model: Classifier) -> float:
    """Operations of both passes of F_cla for one sample, all its streams.

    Of a block's experts the chosen ones are counted. A backward pass costs two forward passes.
    """
    side, streams = model.config.side, model.shape["image_streams"]
    # A copy without weights: those of `model` may be split over ranks.
    with torch.device("meta"):
        model = Classifier(model.config, **model.shape)
    extractor = measure_cost("E_f", model.extractor, (3, side, side))
    blocks = [*model.input_moe, *([model.output_moe] if model.output_moe is not None else [])]
    vectors = model.head.weight.numel() + sum(map(count_weights, blocks))
    if model.adapter is not None:
        vectors += model.adapter.project.weight.numel()
    return streams * (extractor.forward + extractor.backward) + 3 * 2 * vectors


def count_weights(block: MixtureOfExperts) -> int:
    """Weights that one sample is multiplied with."""
    experts = sum(p.numel() for p in block.experts[0].parameters() if p.ndim > 1)
    if block.router is None:
        return experts
    router = sum(p.numel() for p in block.router.parameters())
    return block.config.top_k * experts + router
