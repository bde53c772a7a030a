"""What a finished run left, and whether two runs left the same."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from norface.tracking import MEASURED, read_metrics
from norface.training.stage import StageConfig


def final_weights(config: StageConfig) -> dict[str, torch.Tensor]:
    """Exported tensors by file and name."""
    return {
        f"{path.name}/{name}": tensor
        for path in sorted((config.root / config.name).glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def metric_lines(config: StageConfig) -> list[dict[str, float]]:
    """metrics.jsonl without what depends on the machine."""
    lines = read_metrics(config.root / config.name)
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines]


def assert_same_run(config: StageConfig, other: StageConfig) -> None:
    """Bit for bit."""
    weights, expected = final_weights(config), final_weights(other)
    assert weights.keys() == expected.keys() and expected
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert metric_lines(config) == metric_lines(other)
