"""Finding faces with MediaPipe's networks: BlazeFace proposes, the face mesh confirms and refines.

BlazeFace sees 128x128 pixels and upright faces. So the whole photograph is looked at first, and
only where that finds nothing, turned views and then overlapping parts of it. Every proposal is
looked at from four sides, because upside down it also resembles a face; the best is cut out upright
and given to the mesh, whose eye line and extent cut it out again until the line stays
put: that makes the five points independent of where and how the proposal lay. Where two sides that
contradict each other score nearly alike, the mesh looks at all of them, and what most of them end
in is the face: from the wrong side, the mesh mostly turns back to the right one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from norface.data.alignment import fit_similarity, invert_matrix, move_points, warp_picture
from norface.data.detection import Detection, FaceDetector, box_overlap
from norface.images import to_image
from norface.models.mediapipe import (
    LEFT_EYE,
    LEFT_MOUTH_CORNER,
    NOSE_TIP,
    RIGHT_EYE,
    RIGHT_MOUTH_CORNER,
    BlazeFace,
    FaceMesh,
    read_task_file,
)

PROPOSAL_SCORE = 0.5
"Proposals below are dropped."
CLOSE = 0.05
"Scores that differ by less do not tell which side of a face is up."
SAME_WAY_DEG = 60
"Two faces whose eye lines differ by less are one way up."
OVERLAP = 0.3
"Two faces whose boxes overlap by more (intersection over union) are one."
ROI_SCALE = 1.5
"Side of the mesh's crop over the extent of the face, as the network was trained."
SETTLED_DEG = 0.5
MOST_CROPS = 4
SMALLEST_SIDE = 16
"A picture narrower than this, in pixels, has no face that could be aligned."


class MediaPipeDetector(FaceDetector):
    """Faces by BlazeFace, five points by the 478-point mesh."""

    def __init__(self, task_file: Path):
        graphs = read_task_file(task_file)
        self.proposer = BlazeFace(graphs["face_detector"]).eval()
        self.mesh = FaceMesh(graphs["face_landmarks_detector"]).eval()

    @torch.no_grad()
    def find_faces(self, pixels: np.ndarray) -> list[Detection]:
        height, width = pixels.shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            return []
        for views in _levels(width, height):
            faces: list[Detection] = []
            crops = [
                warp_picture(pixels, view, BlazeFace.SIDE, border=cv2.BORDER_CONSTANT)
                for view in views
            ]
            for score, square in self._propose(crops, views):
                if all(box_overlap(_box(square), face.box) < OVERLAP for face in faces):
                    face = self._refine(pixels, *self._turn_upright(pixels, score, square))
                    if face and all(box_overlap(face.box, other.box) < OVERLAP for other in faces):
                        faces.append(face)
            if faces:
                return sorted(faces, key=lambda face: -face.area)
        return []

    def _propose(
        self, crops: list[np.ndarray], views: list[np.ndarray]
    ) -> list[tuple[float, np.ndarray]]:
        """Squares (4 corners, upright in the face's own frame) with their scores, best first."""
        found = [one for seen in self._look(crops, views) for one in seen]
        # Equal scores keep the order of views and anchors, so the result is always the same.
        found.sort(key=lambda pair: -pair[0])
        kept: list[tuple[float, np.ndarray]] = []
        for score, square in found:
            if all(box_overlap(_box(square), _box(other)) < OVERLAP for _, other in kept):
                kept.append((score, square))
        return kept

    def _look(
        self, crops: list[np.ndarray], views: list[np.ndarray]
    ) -> list[list[tuple[float, np.ndarray]]]:
        """Scores and squares of what each view shows, best first, one face many times.

        A view is the matrix photograph => crop (128, 128, 3).
        """
        found = []
        seen = self.proposer(to_image(np.stack(crops)))
        for view, scores, faces in zip(views, *seen, strict=True):
            back, here = invert_matrix(view), []
            for number in (scores > PROPOSAL_SCORE).nonzero().flatten().tolist():
                centre, size, right_eye, left_eye = faces[number, :8].reshape(4, 2).numpy()
                line = left_eye - right_eye
                square = _square(centre, float(size.max()), line) - 0.5
                here.append((float(scores[number]), move_points(back, square)))
            found.append(sorted(here, key=lambda pair: -pair[0]))
        return found

    def _turn_upright(
        self, pixels: np.ndarray, score: float, square: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """The best proposal among the four quarter turns of a proposal's surroundings."""
        around = _enlarge(square, 2.5)
        crop = warp_picture(
            pixels, _frame(around, BlazeFace.SIDE), BlazeFace.SIDE, border=cv2.BORDER_CONSTANT
        )
        crops = [np.rot90(crop, quarter) for quarter in range(4)]
        views = [_frame(np.roll(around, -quarter, 0), BlazeFace.SIDE) for quarter in range(4)]
        sides = [
            next((one for one in seen if box_overlap(_box(one[1]), _box(square)) > OVERLAP), None)
            for seen in self._look(crops, views)
        ]
        found = sorted((one for one in sides if one is not None), key=lambda pair: -pair[0])
        if not found:
            return score, square
        best = found[0]
        close = [one for one in found if best[0] - one[0] < CLOSE]
        if all(_same_way(best[1][1] - best[1][0], other[1] - other[0]) for _, other in close):
            return best
        return self._most_agreed(pixels, found)

    def _most_agreed(
        self, pixels: np.ndarray, found: list[tuple[float, np.ndarray]]
    ) -> tuple[float, np.ndarray]:
        """Of proposals for one place, best first, the first whose eye line by the mesh most of them
        agree with, weighed by their scores."""
        ends = [self._refine(pixels, *one) for one in found]
        lines = [None if end is None else end.five_points[1] - end.five_points[0] for end in ends]
        votes = [
            sum(
                score
                for (score, _), other in zip(found, lines, strict=True)
                if line is not None and other is not None and _same_way(line, other)
            )
            for line in lines
        ]
        return found[int(np.argmax(votes))]

    def find_points(self, pixels: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, float]:
        """Mesh points (478, 2) of the face in a square (its corners, pixels), and presence 0..1."""
        side = FaceMesh.SIDE
        matrix = _frame(square, side)
        points, presence = self.mesh(to_image(warp_picture(pixels, matrix, side))[None])
        places = points[0].double().numpy() * side - 0.5
        return move_points(invert_matrix(matrix), places), float(presence.sigmoid())

    def _refine(self, pixels: np.ndarray, score: float, square: np.ndarray) -> Detection | None:
        """Proposal => face, or None where the mesh sees none."""
        square = _enlarge(square, ROI_SCALE)
        for _ in range(MOST_CROPS):
            points, presence = self.find_points(pixels, square)
            if presence < 0.5:
                return None
            line = points[list(LEFT_EYE)].mean(0) - points[list(RIGHT_EYE)].mean(0)
            turned = _angle_deg(line, square[1] - square[0])
            square = _square_around(points, line)
            if abs(turned) < SETTLED_DEG:
                break
        five = np.array(
            [
                points[list(RIGHT_EYE)].mean(0),
                points[list(LEFT_EYE)].mean(0),
                points[NOSE_TIP],
                points[RIGHT_MOUTH_CORNER],
                points[LEFT_MOUTH_CORNER],
            ]
        )
        return Detection(_box(points), score, five)


def _levels(width: int, height: int) -> Iterator[list[np.ndarray]]:
    """Views to look at, easiest first; a view is the matrix photograph => 128x128."""
    middle, whole = np.array([width, height]) / 2, float(max(width, height))
    turns = range(45, 360, 45)
    # Twice as far away as well: a face that fills the picture is too large for the anchors.
    yield [_view(middle, whole, 0), _view(middle, 2 * whole, 0)]
    yield [_view(middle, 1.2 * whole, turn) for turn in turns]
    for parts in (2, 4):
        size = max(whole / parts, float(BlazeFace.SIDE) / 2)
        places = [
            np.array([x, y])
            for y in _spread(height, size)
            for x in _spread(width, size)
        ]  # fmt: skip
        yield [_view(place, size, 0) for place in places]
        if parts == 2:
            yield [_view(place, size, turn) for turn in turns for place in places]


def _spread(length: int, size: float) -> np.ndarray:
    """Centres of parts of that size that cover the length, each half over its neighbour."""
    count = max(1, int(np.ceil((length - size) / (size / 2))) + 1)
    return np.array([length / 2]) if count == 1 else np.linspace(size / 2, length - size / 2, count)


def _view(centre: np.ndarray, size: float, turn_deg: float) -> np.ndarray:
    """Matrix that brings a turned square of the photograph to 128x128."""
    turn = np.deg2rad(turn_deg)
    corners = _square(centre, size, np.array([np.cos(turn), np.sin(turn)])) - 0.5
    return _frame(corners, BlazeFace.SIDE)


def _frame(square: np.ndarray, side: int) -> np.ndarray:
    """Matrix that brings a square, given by its corners, to a picture of that side."""
    return fit_similarity(square, np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * side - 0.5)


def _square(centre: np.ndarray, size: float, line: np.ndarray) -> np.ndarray:
    """Corners (4, 2), clockwise from the top left, of a square with its upper side along `line`."""
    across = line / max(float(np.linalg.norm(line)), 1e-9) * size / 2
    down = np.array([-across[1], across[0]])
    return centre + np.array([-across - down, across - down, across + down, -across + down])


def _enlarge(square: np.ndarray, factor: float) -> np.ndarray:
    centre = square.mean(0)
    return centre + (square - centre) * factor


def _square_around(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """The mesh's crop: around the points' extent along and across the eye line."""
    along = line / np.linalg.norm(line)
    axes = np.array([along, [-along[1], along[0]]])
    places = points @ axes.T
    low, high = places.min(0), places.max(0)
    return _square((low + high) / 2 @ axes, float((high - low).max()) * ROI_SCALE, line)


def _angle_deg(line: np.ndarray, other: np.ndarray) -> float:
    """Angle from `other` to `line`, -180..180 degrees."""
    cross = other[0] * line[1] - other[1] * line[0]
    return float(np.rad2deg(np.arctan2(cross, other @ line)))


def _same_way(line: np.ndarray, other: np.ndarray) -> bool:
    return abs(_angle_deg(line, other)) < SAME_WAY_DEG


def _box(points: np.ndarray) -> tuple[float, float, float, float]:
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return left, top, right, bottom
