"""Whose networks can judge: what they are, under which licence, and where a person gets them."""

from __future__ import annotations

import importlib.util
from typing import Literal

from norface.config import Config
from norface.critics.base import KINDS, PACKAGED, SOURCES, read_sums
from norface.errors import WeightsError
from norface.files import file_sha256
from norface.models.mediapipe import HOW_TO_GET, find_task_file

RESEARCH = "non-commercial research only"


class Offer(Config):
    """What is known of a source before any of its files is opened."""

    name: str
    "What the network is."
    licence: str
    "Of its weights."
    where: str
    "Where a person gets them, or how they are made."
    research_only: bool = False
    "Whether `accept_licence: true` must be said."


OFFERS = {
    "synthetic": Offer(
        name="small networks that know synthetic faces",
        licence="Apache-2.0",
        where="they ship with norface; `norface train critic` makes others, given by `weights`",
    ),
    "mediapipe": Offer(
        name="MediaPipe's face mesh and blendshapes", licence="Apache-2.0", where=HOW_TO_GET
    ),
    "vgg": Offer(
        name="VGG16",
        licence="that of the weights file",
        where=(
            "save timm's or torchvision's vgg16 as .safetensors where there is a network, or set"
            " losses.perc=null"
        ),
    ),
    "arcface": Offer(
        name="ArcFace",
        licence=f"insightface's model zoo: {RESEARCH}",
        research_only=True,
        where=(
            "get a backbone.pt of arcface_torch (IResNet-18 to -200) or the recognition .onnx of a"
            " model pack (w600k_r50.onnx of buffalo_l) from"
            " https://github.com/deepinsight/insightface/tree/master/model_zoo, or set"
            " losses.id=null"
        ),
    ),
    "hrnet": Offer(
        name="HRNet-W18 with 68 heat maps",
        licence=f"trained on 300W: {RESEARCH}",
        research_only=True,
        where=(
            "get HR18-300W.pth from https://github.com/HRNet/HRNet-Facial-Landmark-Detection, or"
            " set losses.lm=null"
        ),
    ),
    "embedding": Offer(
        name="expression embedding learned from triplets",
        licence="that of the weights file",
        where=(
            "`norface train critic` with objective=triplet makes one; or save a timm network with"
            " num_classes = length of the embedding as .safetensors and name its `architecture`"
        ),
    ),
    "coefficients": Offer(
        name="coefficients of a face, of a 3DMM for example",
        licence="that of the weights file",
        where=(
            "save a timm network with num_classes = number of coefficients as .safetensors, name"
            " its `architecture` and which of its outputs move the brows (`coefficients`), or set"
            " losses.eye=null"
        ),
    ),
}
"Source => what is known of it."

State = Literal["ready", "by path", "missing"]


class Listing(Config):
    """One line of `norface critics list`."""

    kind: str
    source: str
    state: State
    "ready = usable now; by path = set `weights`; missing = see `where`."
    found: str
    "The file that would be used, or what is missing."
    offer: Offer


def list_critics() -> list[Listing]:
    """Every kind with every source that has it, and whether its weights are here."""
    lines = []
    for kind, source in sorted(SOURCES, key=lambda pair: KINDS.index(pair[0])):
        state, found = find_state(kind, source)
        offer = OFFERS[source]
        lines.append(Listing(kind=kind, source=source, state=state, found=found, offer=offer))
    return lines


def find_state(kind: str, source: str) -> tuple[State, str]:
    """Whether a critic could be built without a path, and from which file (or why not)."""
    if source == "synthetic":
        name = packaged_name(kind)
        path, expected = PACKAGED / name, read_sums().get(name)
        if not path.is_file():
            return "missing", f"{path} is not there; reinstall norface"
        if file_sha256(path) != expected:
            return "missing", f"{path} is not the file that was shipped; reinstall norface"
        return "ready", str(path)
    if source == "mediapipe":
        try:
            task_file = find_task_file()
        except WeightsError as error:
            return "missing", str(error)
        if task_file is None:
            return "missing", "no face_landmarker.task"
        if importlib.util.find_spec("tflite") is None:
            return "missing", "the package tflite; pip install norface[faces]"
        return "ready", str(task_file)
    return "by path", f"set critics.{kind}.weights"


def packaged_name(kind: str) -> str:
    """Which of the packaged files answers this kind."""
    wanted = "identity" if kind in ("identity", "perceptual") else "reader"
    return f"{wanted}.safetensors"
