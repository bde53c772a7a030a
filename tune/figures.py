"""Pictures of a sweep's report, as SVG texts in the style of norface.report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from norface.report.figures import COLOURS, INK, RULE, to_svg
from tune.folder import Trial
from tune.space import Parameter

MAP = "viridis"
"Colour map of the objective: bright is good."


def short(key: str, keys: Sequence[str]) -> str:
    """The last part of a key, or as much of it as sets it apart from the others."""
    parts = key.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[-count:])
        if sum(other == name or other.endswith(f".{name}") for other in keys) == 1:
            return name
    return key


def axis_places(parameter: Parameter, values: Sequence[Any]) -> tuple[list[float], list[str]]:
    """Values => places 0..1 on an axis, and the labels of its lower and upper end (or of each)."""
    if parameter.kind in ("choice", "grid"):
        last = max(len(parameter.values) - 1, 1)
        labels = [str(value) for value in parameter.values]
        return [parameter.values.index(value) / last for value in values], labels
    low, high = parameter.values
    scale = math.log if parameter.is_log else float
    # Population-based training stays in the range too.
    places = [(scale(v) - scale(low)) / (scale(high) - scale(low)) for v in values]
    return places, [f"{low:g}", f"{high:g}"]


def draw_parallel(
    trials: Sequence[Trial], space: Mapping[str, Parameter], metric: str, mode: str
) -> str:
    """Parallel coordinates: a line a trial, coloured by its objective; dashed = not whole."""
    shown = [t for t in trials if t.value is not None and not math.isnan(t.value)]
    keys = list(space)
    figure = Figure(figsize=(max(6.0, 1.7 * (len(keys) + 1)), 3.8))
    axes = figure.subplots()
    values = np.array([trial.value for trial in shown])
    low, high = values.min(), values.max()
    goodness = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    goodness = goodness if mode == "max" else 1 - goodness
    columns = []
    for place, key in enumerate(keys):
        places, labels = axis_places(space[key], [trial.values[key] for trial in shown])
        columns.append(places)
        last = max(len(labels) - 1, 1)
        if len(labels) == 1:
            labels, last = [labels[0]], 1
        for number, label in enumerate(labels):
            text = label if len(label) < 18 else f"...{label[-15:]}"
            axes.text(place - 0.03, number / last, text, ha="right", va="center", fontsize=8)
        note = "\nlog" if space[key].is_log else ""
        axes.text(place, 1.1, short(key, keys) + note, ha="center", va="bottom", fontsize=9)
    span = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    columns.append(list(span))
    axes.text(len(keys), 1.1, metric, ha="center", va="bottom", fontsize=9, fontweight="bold")
    for number, end in enumerate((low, high)):
        axes.text(len(keys) + 0.04, number, f"{end:.4g}", va="center", fontsize=8)
    for row in np.argsort(goodness):
        line = [column[row] for column in columns]
        whole = shown[row].state == "finished"
        axes.plot(
            range(len(line)), line, color=colormaps[MAP](0.95 * goodness[row]),
            linewidth=2.0 if goodness[row] == 1 else 1.3, linestyle="-" if whole else "--",
            alpha=0.95 if whole else 0.55,
        )  # fmt: skip
    for place in range(len(keys) + 1):
        axes.axvline(place, color=INK, linewidth=0.8)
    axes.set_xlim(-0.5, len(keys) + 0.5)
    axes.set_ylim(-0.05, 1.07)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_frame_on(False)
    return to_svg(figure)


def draw_importance(importance: Mapping[str, float], keys: Sequence[str]) -> str:
    """Bars: the share of the objective's variance that each parameter explains."""
    figure = Figure(figsize=(5.2, 0.42 * len(importance) + 0.9))
    axes = figure.subplots()
    for row, value in enumerate(importance.values()):
        axes.barh(row, 100 * value, height=0.6, color=COLOURS[1])
        axes.text(100 * value + 1, row, f"{100 * value:.0f}", va="center", color=INK, fontsize=9)
    axes.set_yticks(range(len(importance)), [short(key, keys) for key in importance])
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xlabel("% of the variance between trials")
    return to_svg(figure)


def draw_best_so_far(trials: Sequence[Trial], metric: str, mode: str) -> str:
    """Every trial's objective in the order of numbers, and the best of those that ended whole."""
    figure = Figure(figsize=(5.2, 2.8))
    axes = figure.subplots()
    for state, marker, colour, label in (
        ("finished", "o", COLOURS[1], "whole"),
        ("stopped", "x", COLOURS[0], "stopped"),
    ):
        some = [(t.number, t.value) for t in trials if t.state == state and t.value is not None]
        if some:
            axes.plot(
                *zip(*some, strict=True),
                marker, color=colour, markersize=5, label=label,
            )  # fmt: skip
    for trial in trials:
        if trial.state == "failed":
            axes.axvline(trial.number, color=COLOURS[5], linewidth=0.8, linestyle=":")
    choose = max if mode == "max" else min
    numbers, best, found = [], [], None
    for trial in trials:
        if trial.state == "finished" and trial.value is not None:
            found = trial.value if found is None else choose(found, trial.value)
        if found is not None:
            numbers.append(trial.number)
            best.append(found)
    axes.step(numbers, best, where="post", color=COLOURS[2], linewidth=1.6, label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel(metric)
    axes.legend(frameon=False, fontsize=8)
    return to_svg(figure)


def draw_each(trials: Sequence[Trial], space: Mapping[str, Parameter], metric: str) -> list[str]:
    """SVGs: the objective over each parameter, whole trials only."""
    whole = [t for t in trials if t.state == "finished" and t.value is not None]
    found = []
    for key, parameter in space.items():
        figure = Figure(figsize=(3.4, 2.4))
        axes = figure.subplots()
        values = [trial.values[key] for trial in whole]
        if parameter.kind in ("choice", "grid"):
            values = [parameter.values.index(value) for value in values]
            names = [str(v) if len(str(v)) < 14 else f"...{str(v)[-11:]}" for v in parameter.values]
            turn = 90 if max(map(len, names)) > 5 and len(names) > 3 else 0
            axes.set_xticks(range(len(names)), names, rotation=turn)
            axes.set_xlim(-0.5, len(names) - 0.5)
        elif parameter.is_log:
            axes.set_xscale("log")
        elif parameter.kind == "int":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.plot(values, [t.value or 0.0 for t in whole], "o", color=COLOURS[1], markersize=4.5)
        axes.set_title(short(key, list(space)), loc="left")
        axes.set_ylabel(metric, color=INK)
        axes.spines["left"].set_color(RULE)
        found.append(to_svg(figure))
    return found
