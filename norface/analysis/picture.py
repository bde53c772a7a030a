"""What was found of a face as one picture: photo | aligned | normalized | bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from norface.analysis.analyzer import FaceAnalysis
from norface.data.labels import ACTION_UNITS, unit_name
from norface.report.figures import COLOURS, INK, RULE

PANEL = 2.6
"Side of a picture's panel, in inches."


def write_picture(face: FaceAnalysis, path: Path, title: str) -> None:
    """Draw and save as PNG."""
    draw_face(face, title).savefig(path, format="png", dpi=100)


def draw_face(face: FaceAnalysis, title: str) -> Figure:
    """Panels in a row; those of which nothing is known are left out."""
    shown = [("photo", face.photo), ("aligned", face.aligned)]
    if face.box is None:
        shown = shown[1:]
    several = len(face.normalized_faces) > 1
    shown += [
        (f"normalized {number + 1}" if several else "normalized", pixels)
        for number, pixels in enumerate(face.normalized_faces)
    ]
    widths = [1.0] * len(shown)
    widths += [1.5] if face.action_units else []
    widths += [1.1] if face.emotions else []
    rows = max(len(face.action_units), len(face.emotions))
    height = max(PANEL + 0.5, 0.17 * rows + 1.1)
    figure = Figure(figsize=(PANEL * sum(widths) + 0.6, height), layout="constrained")
    axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    for one, (name, pixels) in zip(axes, shown, strict=False):
        draw_pixels(one, pixels, name)
    if face.box is not None:
        left, top, right, bottom = face.box
        axes[0].add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, color=COLOURS[3], lw=1.5)
        )
    place = len(shown)
    if face.action_units:
        draw_units(axes[place], face)
        place += 1
    if face.emotions:
        draw_emotions(axes[place], face)
    figure.suptitle(title, fontsize=9, color=INK, x=0.01, ha="left")
    return figure


def draw_pixels(axes: Axes, pixels: np.ndarray, name: str) -> None:
    """A picture with its name below."""
    axes.imshow(pixels, interpolation="nearest" if len(pixels) < 128 else None)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(name, fontsize=9, color=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_units(axes: Axes, face: FaceAnalysis) -> None:
    """A bar a unit: its probability where one is told (dark from 0.5), else its intensity; the
    intensity beside a probability as a mark."""
    units = face.action_units
    told = any(one.probability is not None for one in units.values())
    for row, one in enumerate(units.values()):
        value = one.probability if told else (one.intensity or 0) / 5
        active = (value or 0) >= (0.5 if told else 0.4)
        axes.barh(row, value or 0, height=0.7, color=COLOURS[1] if active else COLOURS[0])
        if told and one.intensity is not None:
            axes.plot([one.intensity / 5], [row], "D", color=COLOURS[3], markersize=4)
    names = [f"{unit_name(unit)} {ACTION_UNITS[unit]}" for unit in units]
    label = "probability" if told else "intensity / 5"
    if told and any(one.intensity is not None for one in units.values()):
        label += ", diamond: intensity / 5"
    _finish(axes, names, label)


def draw_emotions(axes: Axes, face: FaceAnalysis) -> None:
    """A bar an emotion."""
    for row, (name, value) in enumerate(face.emotions.items()):
        colour = COLOURS[1] if name == face.emotion else COLOURS[0]
        axes.barh(row, value, height=0.7, color=colour)
    _finish(axes, list(face.emotions), "probability")


def _finish(axes: Axes, names: list[str], label: str) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(label, fontsize=8, color=INK)
    axes.tick_params(axis="x", labelsize=7, colors=INK)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
