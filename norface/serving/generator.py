"""F_nor as a model of MLflow: faces and a target => normalized faces. See mlflow_models.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from norface.models.normalizer import load_generator, read_generator

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

BATCH = 64


def describe_signature(path: Path) -> ModelSignature:
    """Names, kinds and shapes of what the model takes and gives."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    byte, side = np.dtype("uint8"), read_generator(path)[0].side
    shape = (-1, side, side, 3)
    pair = Schema([TensorSpec(byte, shape, "original"), TensorSpec(byte, shape, "target")])
    return ModelSignature(pair, Schema([TensorSpec(byte, shape)]))


def _load_pyfunc(path: str) -> GeneratorModel:
    """What `mlflow.pyfunc.load_model` calls with the file of weights."""
    return GeneratorModel(path)


class GeneratorModel:
    """F_nor: faces and a target face => the target with each face's expression."""

    def __init__(self, path: str):
        self.model = load_generator(path)[0]

    def predict(self, data: Mapping[str, np.ndarray], params: Any = None) -> np.ndarray:
        """{"original": uint8 (N, S, S, 3), "target": uint8 (1 or N, S, S, 3)} => uint8 alike."""
        import torch

        from norface.images import to_image, to_pixels

        original, target = np.asarray(data["original"]), np.asarray(data["target"])
        target = np.broadcast_to(target, original.shape)
        found = []
        for start in range(0, len(original), BATCH):
            part = slice(start, start + BATCH)
            with torch.no_grad():
                made = self.model(to_image(original[part]), to_image(target[part].copy()))
            found.append(to_pixels(made))
        return np.concatenate(found)
