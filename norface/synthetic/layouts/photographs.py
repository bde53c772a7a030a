"""Faces with a named emotion, alone or inside of a larger photograph: what both FER corpora need.

Emotions take turns, every fourth face is of the test part, and over the turns both parts meet all
emotions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from norface.images import resize_pixels
from norface.synthetic.emotions import draw_emotion
from norface.synthetic.layouts.base import LayoutSettings
from norface.synthetic.renderer import render

Box = tuple[int, int, int, int]
"Left, top, right, bottom in pixels."


class EmotionFace(NamedTuple):
    """A rendered face and what is known of it."""

    number: int
    "Counted from 0 over all persons."
    emotion: str
    split: str
    "train or test."
    pixels: np.ndarray
    "uint8 (side, side, 3)."
    landmarks: np.ndarray
    "(68, 2) in pixels."

    @property
    def box(self) -> Box:
        """Around the landmarks."""
        left, top = self.landmarks.min(0).astype(int).tolist()
        right, bottom = self.landmarks.max(0).astype(int).tolist()
        return left, top, right, bottom


def draw_faces(settings: LayoutSettings, emotions: Sequence[str]) -> Iterator[EmotionFace]:
    """`frames` faces of each person."""
    number = 0
    for subject in range(settings.subjects):
        for frame in settings.draw(subject):
            emotion = emotions[(number + number // 4) % len(emotions)]
            rng = np.random.default_rng([0xFE, settings.seed, number])
            shown = {} if emotion == "neutral" else draw_emotion(rng, emotion)
            parameters = dataclasses.replace(frame.parameters, intensity=shown, asymmetry={})
            face = render(parameters, settings.side)
            split = "test" if number % 4 == 3 else "train"
            landmarks = np.asarray(face.landmarks) * settings.side
            yield EmotionFace(number, emotion, split, face.pixels, landmarks)
            number += 1


def place_in_photograph(face: EmotionFace, bystander: np.ndarray | None, seed: int) -> Placed:
    """The face somewhere in a photograph of 3 x 2 faces, beside a larger one where one is given."""
    side = len(face.pixels)
    rng = np.random.default_rng([0xF0, seed, face.number])
    photograph = rng.integers(90, 150, (2 * side, 3 * side, 3), np.uint8)
    left, top = rng.integers(0, side // 4), rng.integers(0, side)
    photograph[top : top + side, left : left + side] = face.pixels
    if bystander is not None:
        large = resize_pixels(bystander, side + side // 2)
        photograph[: len(large), -len(large) :] = large
    moved = face._replace(landmarks=face.landmarks + [left, top])
    return Placed(photograph, moved.box, moved.landmarks)


class Placed(NamedTuple):
    """A photograph, and where in it the face is that the label is about."""

    pixels: np.ndarray
    box: Box
    landmarks: np.ndarray
