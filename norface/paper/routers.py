"""Figure 8 of the paper: what the routers decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from norface.errors import CorpusError
from norface.evaluation.crossval_config import FoldTask, fold_config, list_folds
from norface.paper.config import PaperConfig
from norface.paper.experiments import list_places
from norface.paper.recording import bring_runs
from norface.report.figures import INK
from norface.tracking import replacing
from norface.training.stages.cla_config import ClaConfig


def draw_fig8(config: PaperConfig) -> list[Path]:
    """OUT/fig8-EXPERIMENT.png: mean gate of each expert of M_o over pictures that show a target."""
    paths = []
    for name, place in list_places(config).items():
        runs = bring_runs(config, name, place, ["norface"])
        if runs.crossval is None or "norface" in runs.absent:
            raise CorpusError(f"fig8: {name} has {runs.absent['norface']}")
        crossval = runs.crossval
        found = {}
        for fold in list_folds(crossval):
            task = FoldTask("norface", crossval.seeds[0], fold)
            found[fold] = read_routing(fold_config(crossval, task), crossval.folder / task.name)
        drawn = draw_routing(found, name)
        path = config.out / f"fig8-{name}.png"
        with replacing(path) as aside:
            drawn.savefig(aside, format="png", dpi=150, bbox_inches="tight")
        paths.append(path)
    return paths


def read_routing(config: ClaConfig, folder: Path) -> tuple[list[str], np.ndarray]:
    """Targets and their mean gates (targets, m) of M_o, over test pictures that show the target."""
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


def draw_routing(found: dict[str, tuple[list[str], np.ndarray]], title: str) -> Figure:
    """A map of experts x targets a fold: experts have no names, so folds are not averaged."""
    figure = Figure(figsize=(3.4 * len(found) + 0.6, 2.8), layout="constrained")
    all_axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (fold, (targets, gates)) in zip(all_axes, found.items(), strict=True):
        axes.imshow(gates.T, cmap="Blues", aspect="auto", vmin=0)
        axes.set_xticks(range(len(targets)), targets, rotation=90, fontsize=7)
        axes.set_yticks(range(gates.shape[1]), [f"expert {i + 1}" for i in range(gates.shape[1])])
        axes.tick_params(labelsize=7, colors=INK)
        axes.set_title(fold, fontsize=9, color=INK)
    figure.suptitle(f"Figure 8, {title}: mean gate of M_o, dark = high", fontsize=10, color=INK)
    return figure
