"""F_nor as a model of MLflow: faces and a target face => the target with each face's expression."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from norface.images import to_image, to_pixels
from norface.models.normalizer import load_generator, read_generator

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

BATCH = 32


def describe_signature(path: Path) -> ModelSignature:
    """Names, kinds and shapes of what the generator of a file takes and gives."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    side = read_generator(path)[0].side
    byte, shape = np.dtype("uint8"), (-1, side, side, 3)
    taken: list[ColSpec | TensorSpec] = [
        TensorSpec(byte, shape, name) for name in ("original", "target")
    ]
    return ModelSignature(Schema(taken), Schema([TensorSpec(byte, shape)]))


def _load_pyfunc(path: str) -> GeneratorModel:
    """What `mlflow.pyfunc.load_model` calls with the file of weights."""
    return GeneratorModel(path)


class GeneratorModel:
    """The network with MLflow's `predict`."""

    def __init__(self, path: str):
        self.model = load_generator(path)[0]

    def predict(self, data: Mapping[str, np.ndarray], params: Any = None) -> np.ndarray:
        """{"original": uint8 (N, S, S, 3), "target": uint8 (1 or N, S, S, 3)} => uint8 alike."""
        original = np.asarray(data["original"])
        target = np.broadcast_to(np.asarray(data["target"]), original.shape)
        found = []
        for start in range(0, len(original), BATCH):
            part = slice(start, start + BATCH)
            with torch.no_grad():
                made = self.model(to_image(original[part]), to_image(target[part].copy()))
            found.append(to_pixels(made))
        return np.concatenate(found)
