"""Final weights as MLflow's models: safetensors, a signature, the code that loads them; no pickle.

    model = mlflow.pyfunc.load_model("models:/m-0123...")
    scores = model.predict({"faces": faces})                    # classifier: (N, streams, S, S, 3)
    pictures = model.predict({"original": faces, "target": face})    # generator: (N, S, S, 3)

MLflow calls `_load_pyfunc` of this module, so the loading side has norface installed. Faces are
aligned pixels, uint8 RGB. Files of other networks (encoder, critic) are models without `predict`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from norface import __version__
from norface.critics.base import file_sha256

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

SUM_TAG = "sha256"
CLASSIFIER, GENERATOR = "classifier.safetensors", "generator.safetensors"
BATCH = 64


def log_models(
    client: MlflowClient,
    *,
    experiment_id: str,
    run_id: str,
    paths: Sequence[Path],
    step: int,
) -> None:
    """Log files of weights as models of a run, those that it has not got yet."""
    from mlflow.entities import LoggedModelOutput

    there = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    known = {model.tags.get(SUM_TAG) for model in there if str(model.status) == "READY"}
    for path in paths:
        total = file_sha256(path)
        if total in known:
            continue
        model = client.create_logged_model(
            experiment_id, path.stem, run_id, {SUM_TAG: total}, model_type=path.stem
        )
        with tempfile.TemporaryDirectory(prefix="norface-model-") as place:
            folder = Path(place) / "model"
            write_model(path, folder, model_id=model.model_id, run_id=run_id)
            client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])


def write_model(path: Path, folder: Path, *, model_id: str | None, run_id: str | None) -> None:
    """A folder that MLflow reads: MLmodel, requirements.txt and data/FILE."""
    import mlflow.pyfunc
    from mlflow.models import Model

    (folder / "data").mkdir(parents=True)
    shutil.copyfile(path, folder / "data" / path.name)
    model = Model(model_id=model_id, run_id=run_id)
    if path.name in (CLASSIFIER, GENERATOR):
        (folder / "requirements.txt").write_text(f"norface=={__version__}\n", encoding="utf-8")
        model.signature = describe_signature(path)
        mlflow.pyfunc.add_to_model(model, loader_module=__name__, data=f"data/{path.name}")
    model.add_flavor("safetensors", data=f"data/{path.name}", norface_version=__version__)
    model.save(str(folder / "MLmodel"))


def describe_signature(path: Path) -> ModelSignature:
    """Names, kinds and shapes of what a model takes and gives."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    byte, number = np.dtype("uint8"), np.dtype("float32")
    if path.name == GENERATOR:
        from norface.models.normalizer import read_generator

        side = read_generator(path)[0].side
        shape = (-1, side, side, 3)
        faces: list[ColSpec | TensorSpec] = [
            TensorSpec(byte, shape, name) for name in ("original", "target")
        ]
        return ModelSignature(Schema(faces), Schema([TensorSpec(byte, shape)]))
    from norface.models.classifier import load_classifier

    about = load_classifier(path)[1]
    side = about["side"]
    taken: list[ColSpec | TensorSpec] = [
        TensorSpec(byte, (-1, about["image_streams"], side, side, 3), "faces")
    ]
    if about["feature_width"]:
        taken.append(TensorSpec(number, (-1, about["feature_width"]), "features"))
    return ModelSignature(Schema(taken), Schema([TensorSpec(number, (-1, about["outputs"]))]))


def _load_pyfunc(path: str) -> ClassifierModel | GeneratorModel:
    """What `mlflow.pyfunc.load_model` calls with the file of weights."""
    return GeneratorModel(path) if Path(path).name == GENERATOR else ClassifierModel(path)


class ClassifierModel:
    """F_cla: faces => probabilities of units, intensities 0..5, or probabilities of emotions."""

    def __init__(self, path: str):
        from norface.models.classifier import load_classifier

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


class GeneratorModel:
    """F_nor: faces and a target face => the target with each face's expression."""

    def __init__(self, path: str):
        from norface.models.normalizer import load_generator

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
