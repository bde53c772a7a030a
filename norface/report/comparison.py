"""What `norface compare` found, for the terminal and as a page of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from norface import __version__
from norface.evaluation.comparing import MEAN
from norface.evaluation.summary import align_columns
from norface.report.build import embed_svg, read_template
from norface.tracking import replacing

NONE = "-"


def format_comparison(found: Mapping[str, Any], metrics: Sequence[str] | None = None) -> str:
    """Tables and remarks of some metrics (None = the task's main one) for the terminal."""
    chosen = metrics or list(found["metrics"])[:1]
    parts = [describe_folds(found)]
    for metric in chosen:
        parts += _format_metric(metric, found["metrics"][metric], found["settings"])
    left = [metric for metric in found["metrics"] if metric not in chosen]
    if left:
        parts.append(f"also there: --metric {' or '.join(left)}")
    return "\n\n".join(parts)


def describe_folds(found: Mapping[str, Any]) -> str:
    """`bp4d, au: 3 folds, 146847 frames of 41 persons`."""
    frames = sum(fold["frames"] for fold in found["folds"].values())
    persons = sum(fold["persons"] for fold in found["folds"].values())
    folds = f"{len(found['folds'])} fold{'s' if len(found['folds']) > 1 else ''}"
    return f"{found['corpus']}, {found['task']}: {folds}, {frames} frames of {persons} persons"


def _format_metric(metric: str, one: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    paper = one.get("paper")
    parts = []
    for name, rows in one["settings"].items():
        seeds = settings[name]["seeds"]
        about = [f"{seeds} seeds"] if seeds > 1 else []
        about += [f"{key} {value}" for key, value in settings[name]["facts"].items()]
        head = f"{name}: {metric} in %" + (f" ({', '.join(about)})" if about else "")
        parts.append("\n".join([head, *align_columns(tabulate_rows(rows, paper))]))
    for test in one["tests"]:
        parts.append("\n".join([*align_columns(tabulate_test(test)), describe_t(test)]))
    if paper is not None:
        parts.append(f"paper: {paper['row']}, {paper['table']}, {paper['experiment']}")
    if one["remarks"]:
        parts.append("\n".join(["Worth a look:", *(f"- {text}" for text in one["remarks"])]))
    return parts


def tabulate_rows(
    rows: Mapping[str, Mapping[str, Any]], paper: Mapping[str, Any] | None
) -> list[list[str]]:
    """Target x fold, mean, standard deviation over folds, interval, the paper's number."""
    folds = list(rows[MEAN]["folds"])
    beside = ["paper", "ours - paper"] if paper else []
    table = [["", *folds, "mean", "sd", "95 % interval", *beside]]
    for target, row in rows.items():
        if target != MEAN and len(rows) == 2:
            # A single target is its own mean.
            continue
        cells = [percent(row["folds"].get(fold)) for fold in folds]
        cells += [percent(row["mean"]), percent(row["sd"]), between(row)]
        if paper:
            printed = paper["values"].get(target)
            both = printed is not None and row["mean"] is not None
            cells += [percent(printed), points(row["mean"] - printed if both else None)]
        table.append([target, *cells])
    return table


def tabulate_test(test: Mapping[str, Any]) -> list[list[str]]:
    """Differences of two settings by target."""
    table = [[f"{test['second']} - {test['first']}", "points", "95 % interval", "p"]]
    single = len(test["differences"]) == 2
    for target, one in test["differences"].items():
        if target == MEAN or not single:
            cells = [points(one["value"]), between(one, points), show_p(one["p"])]
            table.append([target, *cells])
    return table


def describe_t(test: Mapping[str, Any]) -> str:
    """The paired t over folds, in words."""
    t = test["t"]
    if t is None:
        return "paired t over folds: not defined here; intervals and p above draw persons in pairs"
    return (
        f"intervals and p: persons drawn in pairs; paired t over {t['df'] + 1} folds:"
        f" t = {t['t']:.2f}, p = {t['p']:.3f}"
    )


def percent(value: float | None) -> str:
    """0.123 => 12.3."""
    return NONE if value is None else f"{100 * value:.1f}"


def points(value: float | None) -> str:
    """0.123 => +12.3."""
    return NONE if value is None else f"{100 * value:+.1f}"


def between(one: Mapping[str, Any], show: Any = percent) -> str:
    """`61.0 to 70.2`."""
    return NONE if one["low"] is None else f"{show(one['low'])} to {show(one['high'])}"


def show_p(p: float | None) -> str:
    """Three digits; 2000 draws cannot show less than 0.001."""
    return NONE if p is None else "<=0.001" if p < 0.0015 else f"{p:.3f}"


def sign_of(one: Mapping[str, Any]) -> str:
    """`best` for a difference surely above 0, `worse` for one surely below, else nothing."""
    if one["low"] is None:
        return ""
    return "best" if one["low"] > 0 else "worse" if one["high"] < 0 else ""


def write_page(found: Mapping[str, Any], path: Path, *, title: str) -> None:
    """One self-contained HTML page of all metrics. Raises CheckpointError."""
    from norface.report.figures import draw_differences, draw_folds

    metrics = []
    for metric, one in found["metrics"].items():
        paper = one.get("paper")
        metrics.append(
            {
                "name": metric,
                "folds": embed_svg(draw_folds(one["settings"], metric, paper)),
                "paper": paper,
                "settings": [
                    {
                        "name": name,
                        "about": found["settings"][name],
                        "table": tabulate_rows(rows, paper),
                    }
                    for name, rows in one["settings"].items()
                ],
                "tests": [
                    {
                        "table": tabulate_test(test),
                        "t": describe_t(test),
                        "picture": embed_svg(draw_differences(test)),
                        "sure": {
                            target: sign_of(one) for target, one in test["differences"].items()
                        },
                    }
                    for test in one["tests"]
                ],
                "remarks": one["remarks"],
            }
        )
    text = read_template("compare.html").render(
        title=title,
        written=time.strftime("%d %B %Y, %H:%M"),
        version=__version__,
        about=describe_folds(found),
        subjects=found["folds"],
        metrics=metrics,
    )
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")
