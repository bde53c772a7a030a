"""F_nor behind MLflow's `predict`, loaded by MLflow from the folder that tracking uploads."""

import numpy as np
import pytest
import torch

from norface.images import to_image, to_pixels
from norface.mlflow_models import write_model
from norface.models.normalizer import Normalizer, NormalizerConfig, save_generator
from norface.serving.generator import BATCH

SIDE = 16
CONFIG = NormalizerConfig.model_validate(
    {
        "encoder": {"side": SIDE, "patch": 4, "width": 8, "depth": 1, "heads": 2},
        "merging": {"heads": 2, "blocks": 1},
        "decoder": {"channels": [8, 8, 8], "convolutions": 1},
    }
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Normalizer(CONFIG).eval()


@pytest.fixture(scope="module")
def served(network, tmp_path_factory):
    import mlflow

    folder = tmp_path_factory.mktemp("model")
    save_generator(network, folder / "generator.safetensors", persons=[("bp4d", "F001")])
    write_model(folder / "generator.safetensors", folder / "out", model_id=None, run_id=None)
    return mlflow.pyfunc.load_model(str(folder / "out"))


def draw_faces(count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@torch.no_grad()
def test_one_target_serves_every_face_also_beyond_a_batch(network, served):
    faces, target = draw_faces(BATCH + 3, 1), draw_faces(1, 2)
    found = served.predict({"original": faces, "target": target})
    assert found.dtype == np.uint8 and found.shape == faces.shape
    for row in (0, BATCH - 1, BATCH, BATCH + 2):
        alone = network(to_image(faces[row : row + 1]), to_image(target))
        # A batch may round otherwise than one picture.
        assert np.abs(found[row].astype(int) - to_pixels(alone)[0]).max() <= 1
    assert len({face.tobytes() for face in found}) == len(faces)


@torch.no_grad()
def test_targets_of_their_own_are_taken_row_by_row(network, served):
    faces, targets = draw_faces(2, 3), draw_faces(2, 4)
    found = served.predict({"original": faces, "target": targets})
    alone = to_pixels(network(to_image(faces[1:]), to_image(targets[1:])))[0]
    assert np.abs(found[1].astype(int) - alone).max() <= 1


def test_faces_of_another_side_are_refused_by_the_signature(served):
    import mlflow

    wrong = np.zeros((1, SIDE + 1, SIDE, 3), np.uint8)
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"(?s)Shape of input.*16"):
        served.predict({"original": wrong, "target": wrong})
