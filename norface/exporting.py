"""F_nor and F_cla as files that run without this package: torch.export (.pt2) and ONNX (.onnx).

    export_model("runs/nor/generator.safetensors", "generator.onnx")
    export_model("runs/cla/classifier.safetensors", "classifier.pt2")

The file is opened again and asked about random pictures before it takes its name; what it answers
must be what the network answers, to 1e-4. `norface` in its metadata is a JSON that says the names,
shapes and ranges of inputs and outputs, the side of the pictures, and what the outputs stand for,
in order. Any number of pictures at once.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from norface import __version__
from norface.errors import ConfigError, WeightsError
from norface.files import write_aside
from norface.models.classifier import Classifier, load_classifier, to_scores
from norface.models.moe import MixtureOfExperts
from norface.models.normalizer import Normalizer, load_generator

TOLERANCE = 1e-4
"Largest difference between the file's answers and the network's."
OPSET = 20
METADATA = "norface"
RANGE = "RGB, float32, -1..1 (pixel / 127.5 - 1), aligned by norface prepare"


class Exported(NamedTuple):
    """What was written and checked."""

    path: Path
    difference: float
    "Largest between the file and the network, on random pictures."
    about: dict[str, Any]


class _Normalize(nn.Module):
    """original, target (N, 3, S, S) => normalized (N, 3, S, S)."""

    def __init__(self, model: Normalizer):
        super().__init__()
        self.model = model

    def forward(self, original: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # As Normalizer.forward, but not in one batch of both: ONNX would keep its size.
        tokens = self.model.encode_original(original), self.model.encode(target)
        return self.model.merge_decode(*tokens, target)


class _Classify(nn.Module):
    """images (N, 1 + K, 3, S, S), the original first => scores (N, T)."""

    def __init__(self, model: Classifier, task: str):
        super().__init__()
        self.model, self.task = model, task

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        streams = [images[:, number] for number in range(images.shape[1])]
        logits, _ = self.model(streams)
        return to_scores(logits, self.task)


def load_network(path: Path) -> tuple[nn.Module, dict[str, torch.Tensor], dict[str, Any]]:
    """The network of a generator's or classifier's file, random inputs for two, and its facts.

    Raises WeightsError for any other file, ConfigError for a classifier that reads features.
    """
    draw = torch.Generator().manual_seed(0)
    facts: dict[str, Any] = {"norface": __version__, "file": path.name}
    if is_classifier(path):
        classifier, about = load_classifier(path)
        if classifier.shape["feature_width"]:
            raise ConfigError(f"{path}: reads features of critics, not pictures; not exported")
        for module in classifier.modules():
            if isinstance(module, MixtureOfExperts):
                module.every_expert = True
        side, streams = classifier.config.side, classifier.shape["image_streams"]
        inputs = {"images": torch.rand(2, streams, 3, side, side, generator=draw) * 2 - 1}
        meaning = {"au": "probabilities, present from 0.5", "intensity": "0..5",
                   "emotion": "probabilities that sum to 1"}[about["task"]]  # fmt: skip
        facts |= {
            "network": "classifier", "task": about["task"], "side": side,
            "inputs": {"images": {"shape": ["batch", streams, 3, side, side], "range": RANGE,
                                  "streams": "the original, then the normalized faces"}},
            "outputs": {"scores": {"shape": ["batch", len(about["targets"])],
                                   "order": list(about["targets"]), "range": meaning}},
        }  # fmt: skip
        return _Classify(classifier, about["task"]).eval(), inputs, facts
    generator, card = load_generator(path)
    shape = (2, 3, card.side, card.side)
    inputs = {name: torch.rand(shape, generator=draw) * 2 - 1 for name in ("original", "target")}
    picture = {"shape": ["batch", *shape[1:]], "range": RANGE}
    facts |= {
        "network": "generator", "side": card.side,
        "inputs": {"original": picture, "target": picture},
        "outputs": {"normalized": {"shape": picture["shape"], "range": "RGB, float32, -1..1"}},
    }  # fmt: skip
    return _Normalize(generator).eval(), inputs, facts


def is_classifier(path: Path) -> bool:
    """Whether a safetensors file is one of `norface train cla`. Raises WeightsError."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return any(name.startswith("extractor.") for name in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})") from None


def export_model(path: str | Path, out: str | Path) -> Exported:
    """Write `out` (.pt2 or .onnx), opened again and checked; or nothing.

    Raises ConfigError, WeightsError.
    """
    path, out = Path(path), Path(out)
    if out.suffix not in (".pt2", ".onnx"):
        raise ConfigError(f"{out}: its name must end with .pt2 (torch.export) or .onnx")
    if out.suffix == ".onnx" and (lacking := [n for n in ("onnx", "onnxruntime") if not _has(n)]):
        raise ConfigError(f"{out}: needs the package {lacking[0]}; pip install onnx onnxruntime")
    network, inputs, about = load_network(path)
    out.parent.mkdir(parents=True, exist_ok=True)
    write, ask = (write_onnx, ask_onnx) if out.suffix == ".onnx" else (write_pt2, ask_pt2)
    with write_aside(out) as temporary, quiet(), torch.no_grad():
        write(network, inputs, about, temporary)
        # Three pictures, where two were shown while exporting: the batch must not be fixed.
        shown = {name: torch.cat([one, one[:1].flip(-1)]) for name, one in inputs.items()}
        answer = ask(temporary, shown)
        difference = float(np.abs(answer - network(*shown.values()).numpy()).max())
        if not difference <= TOLERANCE:
            raise WeightsError(
                f"{out}: answers otherwise than {path}, by {difference:.1e}; nothing was written"
            )
    return Exported(out, difference, about)


def write_pt2(
    network: nn.Module, inputs: dict[str, torch.Tensor], about: dict[str, Any], path: Path
) -> None:
    """torch.export, with the facts as an extra file."""
    batch = {name: {0: torch.export.Dim.AUTO} for name in inputs}
    program = torch.export.export(network, (), kwargs=inputs, dynamic_shapes=batch)
    torch.export.save(program, path, extra_files={METADATA: json.dumps(about)})


def ask_pt2(path: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """What the file answers."""
    return torch.export.load(path).module()(**inputs).numpy()


def write_onnx(
    network: nn.Module, inputs: dict[str, torch.Tensor], about: dict[str, Any], path: Path
) -> None:
    """ONNX, with the facts in its metadata."""
    import onnx

    names = [*inputs, *about["outputs"]]
    torch.onnx.export(
        network, tuple(inputs.values()), str(path), dynamo=False, opset_version=OPSET,
        input_names=list(inputs), output_names=list(about["outputs"]),
        dynamic_axes={name: {0: "batch"} for name in names},
    )  # fmt: skip
    model = onnx.load(str(path))
    model.metadata_props.add(key=METADATA, value=json.dumps(about))
    onnx.save(model, str(path))


def ask_onnx(path: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """What the file answers, by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: one.numpy() for name, one in inputs.items()})[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters warn of what the check afterwards decides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
