"""Two judgements of rendered faces: is the face found where it is, and does an action show."""

from __future__ import annotations

import numpy as np

from norface.data.detection import FaceDetector
from norface.synthetic.parameters import RenderedFace

NEAR = 0.06
"Largest mean distance of the five points from the rendered ones, in units of the side."


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """(5, 2): eyes, tip of the nose, corners of the mouth, of the 68 landmarks."""
    eyes = [landmarks[36:42].mean(0), landmarks[42:48].mean(0)]
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])


def measure_detection(detector: FaceDetector, face: RenderedFace) -> bool:
    """True where the detector finds one face, upright and in its place."""
    found = detector.find_faces(face.pixels)
    if len(found) != 1:
        return False
    side = len(face.pixels)
    places = (found[0].five_points + 0.5) / side
    return float(np.linalg.norm(places - five_points(face.landmarks), axis=1).mean()) < NEAR


def count_pairs(
    intensity: np.ndarray, score: np.ndarray, subject: np.ndarray, *, strong: float
) -> tuple[float, int]:
    """Pairs (intensity >= strong, intensity 0) of one subject: those in order, and all.

    Each of intensity, score, subject is (N,). Equal scores count half.
    """
    won, count = 0.0, 0
    for person in np.unique(subject):
        own = subject == person
        high, low = score[own & (intensity >= strong)], score[own & (intensity == 0)]
        difference = high[:, None] - low[None]
        won += float((difference > 0).sum() + 0.5 * (difference == 0).sum())
        count += difference.size
    return won, count
