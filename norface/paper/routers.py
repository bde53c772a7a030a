"""Figure 8 of the paper: what the routers decide."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from norface.errors import CorpusError
from norface.evaluation.crossval_config import FoldTask, fold_config, list_tasks
from norface.paper.config import PaperConfig
from norface.paper.experiments import list_places
from norface.paper.pictures import NothingToDraw
from norface.paper.recording import bring_runs
from norface.report.figures import INK
from norface.tracking import replacing
from norface.training.stages.cla_config import ClaConfig

Routing = tuple[list[str], np.ndarray]
"Targets, and their mean gates (targets, m); NaN = no picture shows the target."


def draw_fig8(config: PaperConfig) -> list[Path]:
    """OUT/fig8-EXPERIMENT.png: mean gate of each expert of M_o over pictures that show a target.

    Raises NothingToDraw where no experiment has runs with normalized pictures.
    """
    paths, left = [], []
    for name, place in list_places(config).items():
        runs = bring_runs(config, name, place, ["norface"])
        crossval = runs.crossval
        if crossval is None or "norface" in runs.absent:
            left.append(f"{name} has {runs.absent['norface']}")
            continue
        found = {
            task: read_routing(fold_config(crossval, task), crossval.folder / task.name)
            for task in list_tasks(crossval)
            if task.setting == "norface"
        }
        path = config.out / f"fig8-{name}.png"
        with replacing(path) as aside:
            figure = draw_routing(found, name)
            figure.savefig(aside, format="png", dpi=150, bbox_inches="tight")
        paths.append(path)
    if not paths:
        raise NothingToDraw(f"fig8: {'; '.join(left) or 'no experiment is given'}")
    for why in left:
        print(f"fig8: left out, {why}", file=sys.stderr)
    return paths


def read_routing(config: ClaConfig, folder: Path) -> Routing:
    """Targets and their mean gates of M_o, over test pictures that show the target."""
    from norface.training.backends.base import build_backend
    from norface.training.stages.cla import ClaStage

    backend = build_backend(config.backend)
    try:
        stage = ClaStage(config, backend)
        if stage.bare.output_moe is None or stage.bare.output_moe.router is None:
            raise CorpusError(f"{folder}: its classifier has no router in M_o")
        stage.load_exported(folder)
        rows, gates = [], []
        for some, _, routers in stage.answers("test"):
            rows.append(some)
            gates.append(routers[-1].gates.cpu().numpy())
    finally:
        backend.close()
    labels, weights = stage.labels[np.concatenate(rows)], np.concatenate(gates)
    if config.task == "emotion":
        shown = labels[:, None] == np.arange(len(stage.targets))
    else:
        shown = np.nan_to_num(labels) > 0
    empty = np.full(weights.shape[1], np.nan)
    return stage.targets, np.stack(
        [weights[mask].mean(axis=0) if mask.any() else empty for mask in shown.T]
    )


def draw_routing(found: Mapping[FoldTask, Routing], title: str) -> Figure:
    """A map of experts x targets a run, seeds downwards and folds across.

    Experts have no names: the first of one run does what any of another's may do, so a mean over
    folds or seeds would say nothing. The figure says so.
    """
    seeds = list(dict.fromkeys(task.seed for task in found))
    folds = list(dict.fromkeys(task.fold for task in found))
    size = (3.4 * len(folds) + 0.6, 2.2 * len(seeds) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(seeds), len(folds), squeeze=False)
    for task, (targets, gates) in found.items():
        axes = grid[seeds.index(task.seed), folds.index(task.fold)]
        axes.imshow(gates.T, cmap="Blues", aspect="auto", vmin=0)
        axes.set_xticks(range(len(targets)), targets, rotation=90, fontsize=7)
        axes.set_yticks(range(gates.shape[1]), [f"expert {i + 1}" for i in range(gates.shape[1])])
        axes.tick_params(labelsize=7, colors=INK)
        axes.set_title(f"{task.fold}, seed {task.seed}", fontsize=9, color=INK)
    figure.suptitle(
        f"Figure 8, {title}: mean gate of M_o, dark = high\n"
        "experts have no names, so neither folds nor seeds are averaged",
        fontsize=9, color=INK,
    )  # fmt: skip
    return figure
