"""Collect the figures, pictures and curves below a folder into one self-contained page."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from norface import __version__
from norface.data.listing import find_files
from norface.errors import CorpusError
from norface.tracking import MEASURED, METRICS_FILE, read_facts, read_metrics

if TYPE_CHECKING:
    from jinja2 import Template

REPORT_FILE = "report.html"
NO_CURVE = ("step", "images", "lr", *MEASURED)
STAGE_NAMES = {
    "nor": "Normalization network (F_nor)",
    "cla": "Classification network (F_cla)",
    "critic": "Critics",
    "crossval": "Cross-validation",
}
NO_CURVE_OF = ("test/",)
"Beginnings of metrics that are measured once and stand in the tables."
GRIDS = {
    "nor": "left to right: original, target, normalized, and the true face where it is known",
    "cla": "what the classifier is given: originals, and normalized faces below them",
    "mae": "original, masked, reconstructed",
}
"Stage => what its sample grid shows."


class KeyFigure(NamedTuple):
    """One of the few figures at the top of the page."""

    label: str
    value: str
    note: str = ""


def build_report(
    folder: str | Path,
    *,
    title: str = "Norface",
    figures: Sequence[KeyFigure] | None = None,
    pictures: Mapping[str, str | Path] | None = None,
    out: str | Path | None = None,
) -> Path:
    """Write FOLDER/report.html (or `out`) and return its path.

    Found below the folder: summary.json, every crossval.json, every run with metrics.jsonl and its
    newest sample grid. `figures` are shown first (default: from summary.json and crossval.json);
    `pictures`, caption => PNG or JPEG, before the runs' own grids. Raises CorpusError when there is
    nothing to show.
    """
    folder = Path(folder)
    summary = _read_json(folder / "summary.json") or {}
    crossvals = {
        _title_of(path, folder): _read_json(path) or {}
        for path in find_files(folder, "crossval.json")
    }
    runs = [path.parent for path in find_files(folder, METRICS_FILE)]
    if not (summary or crossvals or runs or pictures or figures):
        raise CorpusError(f"{folder}: no summary.json, crossval.json or run to report on")
    given = [(caption, embed_picture(Path(path))) for caption, path in (pictures or {}).items()]
    text = read_template("page.html").render(
        title=title,
        written=time.strftime("%d %B %Y, %H:%M"),
        version=__version__,
        figures=list(figures) if figures is not None else choose_figures(summary, crossvals),
        pictures=given + newest_samples(runs, folder),
        crossvals=[describe_crossval(name, result) for name, result in crossvals.items()],
        stages=draw_stages(runs, folder),
        summary={name: value for name, value in summary.items() if not isinstance(value, dict)},
    )
    path = Path(out) if out is not None else folder / REPORT_FILE
    aside = path.with_name(f".{path.name}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
    return path


def read_template(name: str) -> Template:
    """A page of this folder, its values escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("norface.report", "."), autoescape=True, undefined=StrictUndefined
    ).get_template(name)


def _title_of(path: Path, folder: Path) -> str:
    return str(path.parent.relative_to(folder)).replace(".", folder.name, 1)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise CorpusError(f"{path}: not valid json; remove it and run again") from None


def choose_figures(
    summary: Mapping[str, Any], crossvals: Mapping[str, Mapping[str, Any]]
) -> list[KeyFigure]:
    """The few figures that matter, from what is there."""
    found = []
    for result in list(crossvals.values())[:1]:
        for name, one in result["settings"].items():
            mean = one["mean"]
            note = f"95 %: {100 * mean['low']:.1f} to {100 * mean['high']:.1f}"
            label = f"{result['metric'].upper()} {name.replace('_', ' ')}"
            found.append(KeyFigure(label, f"{100 * mean['value']:.1f} %", note))
    percent = lambda value: f"{100 * value:.1f} %"
    plain = lambda value: f"{value:.2f}"
    for name, label, show, note in (
        ("nearer_to_target", "Nearer to the target", percent, "of normalized faces, by identity"),
        ("source_rank1", "Source person recognised", percent, describe_chance(summary)),
        ("yaw_spread_cut", "Yaw spread cut by", percent, "originals against normalized"),
        ("au_r", "AU correlation", plain, "true intensity against the normalized face"),
        ("error_ratio", "Error ratio", plain, "1 = the bare target, 0 = the true face"),
    ):
        if isinstance(summary.get(name), int | float):
            found.append(KeyFigure(label, show(summary[name]), note))
    return found


def describe_chance(summary: Mapping[str, Any]) -> str:
    """What recognising persons is to be compared with, as far as it was measured."""
    parts = {"chance": "chance_rank1", "from the originals": "source_rank1_originals"}
    known = {text: summary[name] for text, name in parts.items() if name in summary}
    return ", ".join(f"{text} {100 * value:.1f} %" for text, value in known.items())


def describe_crossval(name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a crossval.json: a table of targets x settings and two figures."""
    from norface.report.figures import draw_intervals, draw_targets

    settings, metric = result["settings"], result["metric"]
    first = next(iter(settings.values()))
    rows = []
    for target in [*first["targets"], "mean"]:
        cells = [
            one["mean"] if target == "mean" else one["targets"][target] for one in settings.values()
        ]
        best = max(cell["value"] for cell in cells)
        rows.append({"target": target, "cells": cells, "best": best, "is_mean": target == "mean"})
    folds = [
        {"setting": setting, "values": {fold: one["folds"][fold]["mean"] for fold in one["folds"]}}
        for setting, one in settings.items()
    ]
    return {
        "name": name,
        "metric": metric,
        "settings": list(settings),
        "rows": rows,
        "folds": folds,
        "others": {setting: one["others"] for setting, one in settings.items()},
        "differences": result["differences"],
        "never_present": first["never_present"],
        "size": {key: first[key] for key in ("frames", "persons", "seeds")},
        "bars": embed_svg(draw_intervals(settings, metric)),
        "targets": embed_svg(draw_targets(settings, metric)) if len(first["targets"]) > 1 else "",
    }


def newest_samples(runs: Sequence[Path], folder: Path) -> list[tuple[str, str]]:
    """(caption, data URI) of the newest grid of each run; one fold stands for its setting."""
    found: dict[str, tuple[str, str]] = {}
    for run in runs:
        grids = sorted((run / "samples").glob("*.png"))
        if not grids:
            continue
        facts = read_facts(run)
        where = run.relative_to(folder)
        shown = (
            str(where.parents[1])
            if facts.get("kind") == "cla" and len(where.parts) > 2
            else str(where)
        )
        kind = str(facts.get("kind", ""))
        caption = f"{STAGE_NAMES.get(kind, 'Run')} {shown}, step {int(grids[-1].stem)}"
        if kind in GRIDS:
            caption += f"; {GRIDS[kind]}"
        found.setdefault(shown, (caption, embed_picture(grids[-1])))
    return list(found.values())


def draw_stages(runs: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """Curves of every metric, runs of one kind in one picture where they measure the same."""
    from norface.report.figures import draw_curves, smooth

    kinds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for run in runs:
        kind = read_facts(run).get("kind", "run")
        kinds.setdefault(kind, {})[str(run.relative_to(folder))] = read_metrics(run)
    kinds.pop("crossval", None)
    stages = []
    for kind, lines in kinds.items():
        curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for run_name, steps in lines.items():
            for line in steps:
                for name, value in line.items():
                    if name in NO_CURVE or not isinstance(value, int | float):
                        continue
                    if name.startswith(NO_CURVE_OF):
                        continue
                    place = line.get("images", line["step"])
                    curves.setdefault(name, {}).setdefault(run_name, []).append((place, value))
        order = sorted(curves, key=lambda name: (name != "loss", "/" in name, name))
        drawn = [
            embed_svg(draw_curves({r: smooth(p) for r, p in curves[name].items()}, label=name))
            for name in order
        ]
        if drawn:
            title = STAGE_NAMES.get(kind, kind)
            stages.append({"title": title, "runs": list(lines), "curves": drawn})
    return stages


def embed_picture(path: Path) -> str:
    """A PNG or JPEG as a data URI. Raises CorpusError where there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    kind = "jpeg" if data.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def embed_svg(text: str) -> str:
    """SVG text as a data URI, so that ids of two figures cannot clash."""
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"
