"""Curves and bars of the report, as SVG texts. No file is written here."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS = ("#8a8f98", "#2f6fde", "#2a9d62", "#d98324", "#8e5bc0", "#c8475d", "#2b9fb0")
"One colour a setting or curve, in order; the first, grey, is the baseline."

INK, RULE = "#30343b", "#d9dce1"


def draw_intervals(summaries: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    """Mean of every setting as a bar with its 95 % interval, in per cent."""
    figure = Figure(figsize=(5.2, 0.5 * len(summaries) + 0.9))
    axes = figure.subplots()
    for row, summary in enumerate(summaries.values()):
        low, value, high = (100 * summary["mean"][part] for part in ("low", "value", "high"))
        axes.barh(row, value, height=0.6, color=COLOURS[row % len(COLOURS)])
        axes.plot([low, high], [row, row], color=INK, linewidth=1.4, solid_capstyle="butt")
        axes.text(high + 1, row, f"{value:.1f}", va="center", color=INK, fontsize=10)
    axes.set_yticks(range(len(summaries)), list(summaries))
    axes.invert_yaxis()
    top = max(100 * summary["mean"]["high"] for summary in summaries.values())
    axes.set_xlim(0, min(112, top * 1.12 + 4))
    axes.set_xlabel(f"{metric}, %")
    return to_svg(figure)


def draw_targets(summaries: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    """Every action unit's figure, settings side by side, with intervals, in per cent."""
    targets = list(next(iter(summaries.values()))["targets"])
    figure = Figure(figsize=(9.6, 3.2))
    axes = figure.subplots()
    width = 0.8 / len(summaries)
    for number, (name, summary) in enumerate(summaries.items()):
        places = np.arange(len(targets)) + (number - (len(summaries) - 1) / 2) * width
        found = [summary["targets"][target] for target in targets]
        values = np.array([100 * one["value"] for one in found])
        spread = [
            [max(v - 100 * one["low"], 0) for v, one in zip(values, found, strict=True)],
            [max(100 * one["high"] - v, 0) for v, one in zip(values, found, strict=True)],
        ]
        axes.bar(
            places,
            values,
            width * 0.92,
            yerr=spread,
            color=COLOURS[number % len(COLOURS)],
            label=name,
            error_kw={"elinewidth": 0.9, "ecolor": INK},
        )
    axes.set_xticks(range(len(targets)), targets)
    axes.set_ylim(0, 100)
    axes.set_ylabel(f"{metric}, %")
    axes.legend(frameon=False, ncols=len(summaries), loc="upper center", bbox_to_anchor=(0.5, 1.18))
    return to_svg(figure)


def draw_folds(
    settings: Mapping[str, Mapping[str, Any]], metric: str, paper: Mapping[str, Any] | None = None
) -> str:
    """Every fold as a dot, mean and 95 % interval of every target and setting, in per cent; the
    paper's numbers as dashes."""
    targets = list(next(iter(settings.values())))
    targets = targets if len(targets) > 2 else targets[-1:]
    figure = Figure(figsize=(9.6, 3.4))
    axes = figure.subplots()
    width = 0.8 / len(settings)
    for number, (name, rows) in enumerate(settings.items()):
        colour = COLOURS[number % len(COLOURS)]
        for place, target in enumerate(targets):
            row, x = rows[target], place + (number - (len(settings) - 1) / 2) * width
            dots = [100 * value for value in row["folds"].values() if value is not None]
            axes.plot([x] * len(dots), dots, ".", color=colour, alpha=0.55, markersize=5)
            if row["mean"] is None or row["low"] is None:
                continue
            axes.plot([x, x], [100 * row["low"], 100 * row["high"]], color=colour, linewidth=1.6)
            label = name if place == 0 else "_nolegend_"
            axes.plot([x], [100 * row["mean"]], "o", color=colour, markersize=6, label=label)
    for place, target in enumerate(targets):
        printed = paper["values"].get(target) if paper else None
        if printed is not None:
            label = f"paper: {paper['row']}" if place == 0 else "_nolegend_"  # type: ignore[index]
            edges = [place - 0.42, place + 0.42]
            axes.plot(edges, [100 * printed] * 2, "--", color=INK, linewidth=1, label=label)
    for place in range(1, len(targets)):
        axes.axvline(place - 0.5, color=RULE, linewidth=0.6)
    axes.set_xticks(range(len(targets)), targets)
    axes.set_xlim(-0.6, len(targets) - 0.4)
    axes.set_ylabel(f"{metric}, %")
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return to_svg(figure)


def draw_differences(test: Mapping[str, Any]) -> str:
    """Difference of two settings with its 95 % interval by target, in points; blue where it is
    surely above 0, red where surely below."""
    rows = test["differences"]
    rows = rows if len(rows) > 2 else dict(list(rows.items())[-1:])
    figure = Figure(figsize=(5.2, 0.26 * len(rows) + 0.9))
    axes = figure.subplots()
    for place, one in enumerate(rows.values()):
        if one["low"] is None or one["value"] is None:
            continue
        colour = COLOURS[1] if one["low"] > 0 else COLOURS[5] if one["high"] < 0 else COLOURS[0]
        axes.plot([100 * one["low"], 100 * one["high"]], [place] * 2, color=colour, linewidth=2)
        axes.plot([100 * one["value"]], [place], "o", color=colour, markersize=6)
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(f"{test['second']} - {test['first']}, points")
    return to_svg(figure)


def draw_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]], *, label: str, log_scale: bool = False
) -> str:
    """Named curves of (images, value) in one picture; the folds of a setting share a colour."""
    figure = Figure(figsize=(4.6, 2.5))
    axes = figure.subplots()
    groups = list(dict.fromkeys(name.partition("/seed")[0] for name in curves))
    for number, group in enumerate(groups):
        colour, label_once = COLOURS[(number + 1) % len(COLOURS)], group
        for name, points in curves.items():
            if name.partition("/seed")[0] == group:
                x, y = zip(*points, strict=True)
                marker = "o" if len(points) == 1 else None
                axes.plot(x, y, color=colour, linewidth=1.4, label=label_once, marker=marker)
                label_once = "_nolegend_"
    if log_scale:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_title(label, loc="left")
    axes.set_xlabel("pictures")
    if 1 < len(groups) <= 8:
        axes.legend(frameon=False, fontsize=8)
    return to_svg(figure)


def to_svg(figure: Figure) -> str:
    """A figure in the report's style as SVG text, the same for the same data."""
    from matplotlib import rc_context

    for axes in figure.axes:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(RULE)
        axes.tick_params(colors=INK, length=3, labelsize=9)
        axes.grid(True, color=RULE, linewidth=0.6, alpha=0.7)
        axes.set_axisbelow(True)
        axes.title.set_fontsize(10)
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "norface"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


def smooth(points: Iterable[tuple[float, float]], most: int = 200) -> list[tuple[float, float]]:
    """At most `most` points: means of equal runs of them, so that a long run stays readable."""
    values = np.array(list(points), float)
    if len(values) <= most:
        return [tuple(point) for point in values.tolist()]
    return [tuple(part.mean(axis=0).tolist()) for part in np.array_split(values, most)]
