"""Which parameters of F_cla decay, and which of them learn more slowly."""

from __future__ import annotations

from typing import Any

import torch

from norface.models.classifier import Classifier
from norface.training.decay import decays
from norface.training.stages.cla_config import OptimizerConfig


def group_parameters(model: Classifier, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups for the optimizer: a pair a layer, with decay and without.

    `scale` is what the rate is multiplied by: layer_decay to the number of layers above.
    """
    groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        above = model.layers_above(name) if config.layer_decay < 1 else 0
        groups.setdefault((above, decays(name, parameter)), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if is_decayed else 0.0,
            "scale": config.layer_decay**above,
        }
        for (above, is_decayed), parameters in groups.items()
    ]
