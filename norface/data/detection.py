"""Finding faces in photographs: one interface, two implementations, one choice.

detector = choose_detector("auto")
for face in detector.find_faces(pixels): align_face(pixels, face.five_points)
"""

from __future__ import annotations

import abc
import dataclasses
import importlib.util
from pathlib import Path

import numpy as np

from norface.errors import ConfigError, WeightsError
from norface.models.mediapipe import HOW_TO_GET, find_task_file

DETECTORS = ("auto", "insightface", "mediapipe")
INSIGHTFACE_FOLDER = Path("~/.insightface/models")
"Where insightface keeps its model packs; each pack's detector is a file det_*.onnx."


@dataclasses.dataclass(frozen=True)
class Detection:
    """One face, in pixel coordinates of the photograph (centre of the first pixel at 0, 0)."""

    box: tuple[float, float, float, float]
    "Left, top, right, bottom."
    score: float
    "0..1."
    five_points: np.ndarray
    "(5, 2) x, y in the order of norface.data.alignment.TEMPLATE."

    @property
    def area(self) -> float:
        """Area of the box, in square pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    @property
    def eye_distance(self) -> float:
        """Distance between the eyes, in pixels."""
        return float(np.linalg.norm(self.five_points[1] - self.five_points[0]))

    @property
    def roll_deg(self) -> float:
        """How far the face leans in the photograph, clockwise, -180..180 degrees."""
        across, down = self.five_points[1] - self.five_points[0]
        return float(np.rad2deg(np.arctan2(down, across)))


def box_overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Intersection over union, 0..1, of two boxes (left, top, right, bottom)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (areas - shared)


class FaceDetector(abc.ABC):
    """Finds faces and their five points."""

    @abc.abstractmethod
    def find_faces(self, pixels: np.ndarray) -> list[Detection]:
        """All faces in pixels (H, W, 3), the largest first."""


@dataclasses.dataclass(frozen=True)
class DetectorChoice:
    """A detector and its weights, decided but not loaded: cheap to send to a worker process."""

    name: str
    "insightface or mediapipe."
    weights: Path

    def load(self) -> FaceDetector:
        """Read the weights."""
        if self.name == "insightface":
            return InsightFaceDetector(self.weights)
        from norface.data.blazeface import MediaPipeDetector

        return MediaPipeDetector(self.weights)


def choose_detector(name: str = "auto", weights: str | Path | None = None) -> DetectorChoice:
    """The detector to use: insightface where its models are on disk, else MediaPipe's .task file.

    `weights` is a .task file, an insightface det_*.onnx file or a folder that holds one. Nothing is
    ever downloaded. Raises ConfigError for an unknown name, WeightsError where nothing is found.
    """
    if name not in DETECTORS:
        raise ConfigError(f"detector '{name}' is unknown; there are: {', '.join(DETECTORS)}")
    if weights is not None and not Path(weights).exists():
        raise WeightsError(f"{weights}: no such file; {HOW_TO_GET}")
    is_task = weights is not None and Path(weights).suffix == ".task"
    if name == "insightface" or (name == "auto" and not is_task):
        model = find_insightface_model(weights)
        if model is not None and importlib.util.find_spec("insightface") is not None:
            return DetectorChoice("insightface", model)
        if name == "insightface":
            raise WeightsError(_explain_insightface(model))
    if name == "auto" and weights is not None and not is_task:
        raise WeightsError(
            f"{weights}: holds no detector that can be used ({_explain_insightface(None)})"
        )
    task = find_task_file(weights)
    if task is not None:
        return DetectorChoice("mediapipe", task)
    where = (
        "" if name == "mediapipe" else f" neither insightface's models ({INSIGHTFACE_FOLDER}) nor"
    )
    raise WeightsError(f"no face detector:{where} MediaPipe's file was found; {HOW_TO_GET}")


def _explain_insightface(model: Path | None) -> str:
    if model is not None:
        return "the package insightface is not installed; pip install norface[faces]"
    return (
        f"no insightface detector det_*.onnx below {INSIGHTFACE_FOLDER}; unpack buffalo_l.zip from"
        " https://github.com/deepinsight/insightface/tree/master/model_zoo there"
        " (its models are for non-commercial research only)"
    )


def find_insightface_model(weights: str | Path | None = None) -> Path | None:
    """A det_*.onnx file: `weights` itself, or the first below that folder or insightface's own."""
    place = Path(weights) if weights is not None else INSIGHTFACE_FOLDER.expanduser()
    if place.is_file():
        return place if place.suffix == ".onnx" else None
    return next(iter(sorted(place.rglob("det_*.onnx"))), None)


class InsightFaceDetector(FaceDetector):
    """insightface's SCRFD detector, from its ONNX file alone (no download, no other model)."""

    THRESHOLD = 0.5
    SIDE = 640

    def __init__(self, weights: Path):
        try:
            from insightface.model_zoo import get_model
        except ImportError as error:
            raise WeightsError(
                f"insightface cannot be imported ({error}); pip install norface[faces]"
            ) from None
        try:
            model = get_model(str(weights), providers=["CPUExecutionProvider"])
        except Exception as error:
            # onnxruntime has an exception class of its own for every kind of damage.
            reason = " ".join(str(error).split())
            raise WeightsError(f"{weights}: not a readable ONNX file ({reason})") from None
        if model is None or getattr(model, "taskname", "") != "detection":
            raise WeightsError(f"{weights}: not an insightface detection model")
        model.prepare(ctx_id=-1, input_size=(self.SIDE, self.SIDE), det_thresh=self.THRESHOLD)
        self.model = model

    def find_faces(self, pixels: np.ndarray) -> list[Detection]:
        boxes, points = self.model.detect(np.ascontiguousarray(pixels[..., ::-1]))
        if points is None:
            raise WeightsError("this insightface detector gives no five points; use det_10g.onnx")
        faces = [
            Detection((left, top, right, bottom), score, np.asarray(five, np.float64))
            for (left, top, right, bottom, score), five in zip(boxes.tolist(), points, strict=True)
        ]
        return sorted(faces, key=lambda face: -face.area)
