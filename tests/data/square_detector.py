"""A detector that needs no network: it finds the bright squares that the tests paint."""

import dataclasses
import os

import cv2
import numpy as np

from norface.data.alignment import TEMPLATE
from norface.data.detection import Detection, DetectorChoice, FaceDetector


class SquareDetector(FaceDetector):
    """Every white-framed square of a black picture is a face with the template's five points."""

    def find_faces(self, pixels):
        bright = (pixels.min(-1) > 250).astype(np.uint8)
        count, _, boxes, _ = cv2.connectedComponentsWithStats(bright)
        faces = []
        for x, y, width, height, _ in boxes[1:count].tolist():
            points = TEMPLATE * [width, height] + [x, y] - 0.5
            faces.append(Detection((x, y, x + width, y + height), 1.0, points))
        return sorted(faces, key=lambda face: -face.area)


class LargestOnly(SquareDetector):
    """Sees only squares that are at least a quarter of the picture wide, as networks do."""

    def find_faces(self, pixels):
        least = pixels.shape[1] / 4
        return [face for face in super().find_faces(pixels) if face.box[2] - face.box[0] >= least]


@dataclasses.dataclass(frozen=True)
class SquareChoice(DetectorChoice):
    """Loads it, in a worker process too."""

    def load(self):
        if self.name == "breaks":
            os._exit(9)
        return LargestOnly() if self.name == "largest" else SquareDetector()


def paint(picture, left, top, side, colour):
    """A square of a colour with a white frame: a face."""
    picture[top : top + side, left : left + side] = 255
    edge = max(side // 16, 1)
    picture[top + edge : top + side - edge, left + edge : left + side - edge] = colour
    return picture
