"""Networks as files of other runtimes, asked and compared."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from norface.cli.main import main
from norface.errors import ConfigError, WeightsError
from norface.exporting import export_model
from norface.models.classifier import Classifier, ClassifierConfig, save_classifier
from norface.models.moe import MixtureOfExperts, MoEConfig
from norface.models.normalizer import Normalizer, NormalizerConfig, save_generator

needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))), reason="needs onnx(runtime)"
)
PAPERS = {
    "encoder": {"side": 32, "patch": 4, "width": 16, "depth": 1, "heads": 2},
    "merging": {"heads": 2, "blocks": 1},
    "decoder": {"channels": [16, 8, 8], "convolutions": 1, "upsampling": "shuffle"},
}
LEAN = {
    "encoder": {"kind": "reader", "width": 16, "original": "intensity"},
    "merging": {"heads": 2, "mlp_ratio": 1, "blocks": 0, "start": "aligned"},
    "decoder": {"channels": [16, 8], "convolutions": 1, "upsampling": "nearest",
                "output": "target"},
}  # fmt: skip


def write_classifier(path, extractor):
    torch.manual_seed(0)
    config = ClassifierConfig.model_validate(
        {
            "extractor": extractor,
            "conv": {"side": 32},
            "vit": {"side": 32, "patch": 8, "width": 16, "depth": 1, "heads": 2},
        }
    )
    model = Classifier(config, outputs=2, image_streams=2)
    about = {"task": "au", "targets": ["AU1", "AU12"]}
    save_classifier(path, model, model.state_dict(), about)
    return path


def test_all_experts_under_gates_answer_as_the_chosen_ones():
    torch.manual_seed(0)
    block = MixtureOfExperts(8, MoEConfig()).eval()
    x = torch.randn(9, 8)
    chosen = block(x)[0]
    block.every_expert = True
    torch.testing.assert_close(block(x)[0], chosen)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pt2", pytest.param("onnx", marks=needs_onnx)])
@pytest.mark.parametrize("sizes", [PAPERS, LEAN], ids=["papers", "lean"])
def test_the_generator_is_exported_for_any_batch(tmp_path, sizes, ending):
    torch.manual_seed(0)
    path = tmp_path / "generator.safetensors"
    save_generator(Normalizer(NormalizerConfig.model_validate(sizes)), path, persons=[])
    done = export_model(path, tmp_path / f"generator.{ending}")
    # The check itself asks about another number of pictures than were shown while exporting.
    assert done.difference < 1e-4 and done.path.is_file()
    assert list(done.about["inputs"]) == ["original", "target"]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pt2", pytest.param("onnx", marks=needs_onnx)])
@pytest.mark.parametrize("extractor", ["conv", "vit"])
def test_the_classifier_is_exported_with_the_order_of_its_units(
    tmp_path, capsys, extractor, ending
):
    write_classifier(tmp_path / "classifier.safetensors", extractor)
    out = tmp_path / f"out.{ending}"
    assert main(["export-model", str(tmp_path), str(out)]) == 0
    assert "probabilities, present from 0.5: AU1, AU12" in capsys.readouterr().out
    if ending == "pt2":
        extra = {"norface": ""}
        program = torch.export.load(out, extra_files=extra)
        about = json.loads(extra["norface"])
        answer = program.module()(images=torch.zeros(1, 2, 3, 32, 32))
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(out))
        about = json.loads(session.get_modelmeta().custom_metadata_map["norface"])
        (answer,) = session.run(None, {"images": np.zeros((1, 2, 3, 32, 32), np.float32)})
    assert about["outputs"]["scores"]["order"] == ["AU1", "AU12"]
    assert answer.shape == (1, 2)


def test_what_cannot_be_exported_leaves_nothing(tmp_path, monkeypatch):
    write_classifier(tmp_path / "classifier.safetensors", "conv")
    with pytest.raises(ConfigError, match="must end with"):
        export_model(tmp_path / "classifier.safetensors", tmp_path / "a.pb")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        export_model(tmp_path / "text.safetensors", tmp_path / "a.pt2")
    assert main(["export-model", str(tmp_path / "nothing"), str(tmp_path / "a.pt2")]) == 2
    monkeypatch.setattr(
        "norface.exporting.ask_pt2", lambda path, inputs: np.full((3, 2), 0.7, np.float32)
    )
    with pytest.raises(WeightsError, match="answers otherwise than"):
        export_model(tmp_path / "classifier.safetensors", tmp_path / "a.pt2")
    assert not (tmp_path / "a.pt2").exists()
