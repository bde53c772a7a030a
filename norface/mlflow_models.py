"""Final weights as MLflow's models: safetensors, a signature, the code that loads them; no pickle.

    model = mlflow.pyfunc.load_model("models:/m-0123...")
    scores = model.predict({"faces": faces})                    # classifier: (N, streams, S, S, 3)
    pictures = model.predict({"original": faces, "target": face})    # generator: (N, S, S, 3)

MLflow calls `_load_pyfunc` of a module in norface/serving, so the loading side has norface
installed. Faces are aligned pixels, uint8 RGB. Files of other networks (encoder, critic) are models
without `predict`. What a file is, is looked up by its name: tracking imports no network.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from norface import __version__
from norface.files import file_sha256

if TYPE_CHECKING:
    from mlflow import MlflowClient

SUM_TAG = "sha256"
SERVED = {
    "classifier.safetensors": "norface.serving.classifier",
    "generator.safetensors": "norface.serving.generator",
}
"File => the module that says what it takes and that MLflow loads it by."


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
    if (loader := SERVED.get(path.name)) is not None:
        (folder / "requirements.txt").write_text(f"norface=={__version__}\n", encoding="utf-8")
        model.signature = importlib.import_module(loader).describe_signature(path)
        mlflow.pyfunc.add_to_model(model, loader_module=loader, data=f"data/{path.name}")
    model.add_flavor("safetensors", data=f"data/{path.name}", norface_version=__version__)
    model.save(str(folder / "MLmodel"))
