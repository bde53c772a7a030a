"""F_cla as a model of MLflow: faces => scores. See mlflow_models.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from norface.models.classifier import load_classifier

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

BATCH = 64


def describe_signature(path: Path) -> ModelSignature:
    """Names, kinds and shapes of what the model takes and gives."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    byte, number = np.dtype("uint8"), np.dtype("float32")
    about = load_classifier(path)[1]
    side = about["side"]
    taken: list[ColSpec | TensorSpec] = [
        TensorSpec(byte, (-1, about["image_streams"], side, side, 3), "faces")
    ]
    if about["feature_width"]:
        taken.append(TensorSpec(number, (-1, about["feature_width"]), "features"))
    return ModelSignature(Schema(taken), Schema([TensorSpec(number, (-1, about["outputs"]))]))


def _load_pyfunc(path: str) -> ClassifierModel:
    """What `mlflow.pyfunc.load_model` calls with the file of weights."""
    return ClassifierModel(path)


class ClassifierModel:
    """F_cla: faces => probabilities of units, intensities 0..5, or probabilities of emotions."""

    def __init__(self, path: str):
        self.model, self.about = load_classifier(path)

    def predict(self, data: Mapping[str, np.ndarray], params: Any = None) -> np.ndarray:
        """{"faces": uint8 (N, streams, S, S, 3), "features": float32 (N, F)} => float32 (N, T), in
        the order of the file's `targets`."""
        import torch

        from norface.images import to_image
        from norface.models.classifier import to_scores

        faces, found = np.asarray(data["faces"]), []
        for start in range(0, len(faces), BATCH):
            some = faces[start : start + BATCH]
            streams = [to_image(some[:, number]) for number in range(some.shape[1])]
            extra = data.get("features")
            features = (
                torch.zeros(len(some), 0)
                if extra is None
                else torch.from_numpy(np.asarray(extra[start : start + BATCH], np.float32))
            )
            with torch.no_grad():
                logits = self.model(streams, features)[0]
            found.append(to_scores(logits.float(), self.about["task"]).numpy())
        return np.concatenate(found)
