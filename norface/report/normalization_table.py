"""The figures of `norface evaluate normalization` for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from norface.evaluation.summary import align_columns

FIGURES: dict[str, tuple[str, str, bool]] = {
    "nearer_to_target": ("nearer to the target, %", "up", True),
    "target_similarity": ("similarity to the target", "up", False),
    "source_similarity": ("similarity to the source", "down", False),
    "source_rank1": ("source recognised, rank 1, %", "down", True),
    "source_auc": ("source recognised, AUC", "down", False),
    "unit_r": ("action units, r with the original's", "up", False),
    "label_r": ("action units, r with the labels", "up", False),
    "brow_r": ("AU1, 2 and 4, r with the labels", "up", False),
    "blendshape_r": ("blendshapes, r with the original's", "up", False),
    "expression_distance": ("expression distance, 1 = bare target", "down", False),
    "yaw_spread_cut": ("spread of yaw cut by, %", "up", True),
    "pitch_spread_cut": ("spread of pitch cut by, %", "up", True),
    "background_spread_cut": ("spread of the border cut by, %", "up", True),
    "error_ratio": ("error at mouth and brows, 1 = bare target", "down", False),
    "fid": ("FID to the originals", "down", False),
}
"Figure => (label, better, in per cent), in the order of the table."
MEASURES = {
    "yaw_off_target": "yaw, degrees off the target's",
    "background_off_target": "border, off the target's",
}
"Of the tests: measures that are no figure."
ARROW = {"up": "+", "down": "-"}


def make_grid(result: Mapping[str, Any]) -> list[list[str]]:
    """Rows of cells, the header first: a figure a row, a set a column."""
    sets = result["sets"]
    grid = [["", *sets]]
    for name, (label, better, percent) in FIGURES.items():
        if any(name in figures for figures in sets.values()):
            cells = [show_interval(figures.get(name), percent) for figures in sets.values()]
            grid.append([f"{ARROW[better]} {label}", *cells])
    return grid


def show_interval(interval: Mapping[str, float] | None, percent: bool) -> str:
    """'61.3 [58.0, 64.2]', or nothing."""
    if interval is None:
        return ""
    values = [interval[name] * (100 if percent else 1) for name in ("value", "low", "high")]
    # Three figures tell enough of distances that may be large.
    digits = 1 if percent else (1 if abs(values[0]) >= 100 else 3)
    value, low, high = (f"{one:.{digits}f}" for one in values)
    return f"{value} [{low}, {high}]"


def make_test_grid(tests: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of cells, the header first: a test a row."""
    grid = [["second - first", "measure", "difference", "t", "df", "p"]]
    for one in tests:
        name = one["measure"]
        label = FIGURES[name][0].partition(", %")[0] if name in FIGURES else MEASURES[name]
        pair = f"{one['second']} - {one['first']}"
        p = "< 0.0001" if one["p"] < 1e-4 else f"{one['p']:.4f}"
        numbers = [f"{one['difference']:+.4f}", f"{one['t']:.2f}", str(one["df"]), p]
        grid.append([pair, label, *numbers])
    return grid


def describe(result: Mapping[str, Any]) -> list[str]:
    """Lines of how it was measured."""
    judges = "; ".join(f"{what} by {name}" for what, name in result["judges"].items())
    lines = [
        f"{result['faces']} faces of {result['persons']} persons, [95 % intervals by drawing"
        " persons]; + = more is better, - = less",
        f"judged by others than the losses', as far as is known: {judges}",
    ]
    if result["chance_rank1"] == result["chance_rank1"]:
        lines.append(
            f"source recognised at chance: rank 1 {100 * result['chance_rank1']:.1f} %, AUC 0.5"
        )
    return lines + [f"note: {note}" for note in result["notes"]]


def to_text(result: Mapping[str, Any]) -> str:
    """For the terminal."""
    lines = [*align_columns(make_grid(result)), "", *describe(result)]
    if result["tests"]:
        grid = make_test_grid(result["tests"])
        lines += ["", "paired t-tests over persons' means (p not corrected):"]
        lines += align_columns(grid)
    return "\n".join(lines)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Two tables and how they were measured."""
    parts = [_markdown(make_grid(result)), "\n".join(f"- {line}" for line in describe(result))]
    if result["tests"]:
        parts += ["Paired t-tests over persons' means (p not corrected):"]
        parts += [_markdown(make_test_grid(result["tests"]))]
    return "\n\n".join(parts) + "\n"


def _markdown(grid: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in grid]
    return "\n".join([lines[0], "|" + "---|" * len(grid[0]), *lines[1:]])


def to_json(result: Mapping[str, Any]) -> str:
    """The result as it is; null where a figure is not known or infinite, which JSON cannot say."""

    def tell(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: tell(one) for name, one in value.items()}
        if isinstance(value, list):
            return [tell(one) for one in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(tell(result), indent=1, allow_nan=False) + "\n"


def to_csv(result: Mapping[str, Any]) -> str:
    """set, figure, value, low, high; fractions, never per cent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["set", "figure", "value", "low", "high"])
    for name, figures in result["sets"].items():
        for figure, interval in figures.items():
            writer.writerow([name, figure, *(interval[key] for key in ("value", "low", "high"))])
    return text.getvalue()
