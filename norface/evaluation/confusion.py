"""Confusion matrices of predictions, counted and drawn as one picture that MLflow shows by step."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from norface.data.labels import EMOTIONS
from norface.evaluation.metrics import confusion_matrix
from norface.evaluation.statistics import decide_emotion

CELL, GAP, HEAD, SIDE = 44, 24, 40, 26
"Pixels of a cell, between matrices, above a matrix, and left of it."
INK, BLUE = (48, 52, 59), np.array([47, 111, 222])
ACROSS = 6
"Matrices in a row of the picture."


def count_confusions(table: pd.DataFrame, task: str) -> dict[str, tuple[list[str], np.ndarray]]:
    """Target => (names of the classes, counts (classes, classes)), row = true class.

    au: absent and present at the threshold 0.5; intensity: 0..5, scores rounded; emotion: one
    matrix of all classes. Samples without a label are left out.
    """
    if task == "emotion":
        alphabetical = sorted(str(name) for name in table["target"].unique())
        classes = sorted(alphabetical, key=_place_of_emotion)
        order = [alphabetical.index(name) for name in classes]
        decided = decide_emotion(table)
        truth, chosen = decided["truth"].to_numpy(), decided["score"].to_numpy()
        counts = confusion_matrix(truth, chosen, len(classes))
        return {"emotion": (classes, counts[np.ix_(order, order)])}
    classes = ["absent", "present"] if task == "au" else [str(level) for level in range(6)]
    found = {}
    for target, rows in table[table["truth"].notna()].groupby("target", sort=False):
        truth, score = rows["truth"].to_numpy(), rows["score"].to_numpy()
        chosen = (score >= 0.5).astype(float) if task == "au" else np.floor(score + 0.5).clip(0, 5)
        found[str(target)] = (classes, confusion_matrix(np.round(truth), chosen, len(classes)))
    return found


def _place_of_emotion(name: str) -> tuple[int, str]:
    """Ours in the one order, somebody else's after them."""
    return (EMOTIONS.index(name) if name in EMOTIONS else len(EMOTIONS), name)


def draw_confusions(table: pd.DataFrame, task: str) -> np.ndarray:
    """All matrices of `count_confusions` as pixels (H, W, 3): counts, and as the depth of blue the
    share of the true class; rows are true, columns chosen classes."""
    from PIL import Image, ImageDraw, ImageFont

    found = count_confusions(table, task)
    size = max(len(classes) for classes, _ in found.values())
    label = 9 * max(len(name) for classes, _ in found.values() for name in classes)
    width, height = SIDE + label + size * CELL + GAP, 2 * HEAD + size * CELL + GAP
    across = min(ACROSS, len(found))
    sheet = (across * width, math.ceil(len(found) / across) * height)
    picture = Image.new("RGB", sheet, "white")
    draw = ImageDraw.Draw(picture)
    small, large = ImageFont.load_default(12), ImageFont.load_default(15)
    for number, (target, (classes, counts)) in enumerate(found.items()):
        left = number % across * width + SIDE + label
        top = number // across * height + HEAD
        draw.text((left, top - 32), f"{target}: true (down), chosen", INK, font=large)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for row, name in enumerate(classes):
            middle = top + row * CELL + CELL // 2
            draw.text((left - 8, middle), name, INK, font=small, anchor="rm")
            across_text = name if len(name) < 7 else name[:6]
            below = top + len(classes) * CELL + 12
            draw.text((left + row * CELL + CELL // 2, below), across_text, INK, small, anchor="mm")
            for column in range(len(classes)):
                share = shares[row, column]
                corner = (left + column * CELL, top + row * CELL)
                colour = tuple(int(v) for v in 255 + share * (BLUE - 255))
                box = [corner, (corner[0] + CELL - 2, corner[1] + CELL - 2)]
                draw.rectangle(box, fill=colour)
                place = (corner[0] + CELL // 2 - 1, corner[1] + CELL // 2 - 1)
                ink = "white" if share > 0.6 else INK
                draw.text(place, str(counts[row, column]), ink, font=small, anchor="mm")
    return np.asarray(picture)
