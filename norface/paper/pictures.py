"""Figures of the paper that are pictures: normalized faces (Figure 3), routers (Figure 8)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from norface.data.shards import ShardIndex
from norface.errors import CorpusError
from norface.evaluation.crossval_config import FoldTask, fold_config, list_folds
from norface.images import make_grid, resize_pixels, write_png
from norface.paper.config import STAND_IN, ExperimentPlace, PaperConfig
from norface.paper.experiments import SUFFIX, build_crossval, find_place, train_settings
from norface.report.figures import INK
from norface.tracking import replacing
from norface.training.stages.cla_config import ClaConfig

COLUMNS = 8
"Faces of a picture, of as many persons."
WIDEST = 128
"Side of a face in it."


def list_places(config: PaperConfig) -> dict[str, ExperimentPlace]:
    """The experiments that are given, else the stand-in for action units and for emotions."""
    if config.experiments:
        return dict(config.experiments)
    return {
        STAND_IN + SUFFIX[task]: find_place(config, STAND_IN + SUFFIX[task], task)
        for task in ("au", "emotion")
    }


def draw_fig3(config: PaperConfig) -> list[Path]:
    """OUT/fig3-EXPERIMENT.png: originals above, and below them a row a normalized set."""
    paths = []
    seen: set[str] = set()
    for name, place in list_places(config).items():
        folders = [
            Path(str(one[0] if isinstance(one, list) else one))
            for sets in place.sets.values()
            for one in sets
        ]
        folders = [folder for folder in folders if "{fold}" not in str(folder)]
        faces = str(place.shards)
        if not folders or faces in seen:
            continue
        seen.add(faces)
        index = ShardIndex.open(place.shards[0])
        persons = index.table["subject"].astype(str).to_numpy()
        _, first = np.unique(persons, return_index=True)
        if len(first) < COLUMNS:
            first = np.arange(len(index))
        rows = first[np.linspace(0, len(first) - 1, min(COLUMNS, len(first))).astype(int)]
        keys = [index.key_of(int(row)) for row in rows]
        lines = [[index.read_pixels(int(row)) for row in rows]]
        for folder in folders:
            found = ShardIndex.open(folder)
            lines.append([found.read_pixels(int(row)) for row in found.rows_of(keys)])
        side = min(index.side, WIDEST)
        path = config.out / f"fig3-{name}.png"
        with replacing(path) as aside:
            shown = [[resize_pixels(face, side) for face in line] for line in lines]
            write_png(aside, make_grid(shown))
        paths.append(path)
    if not paths:
        raise CorpusError("fig3: no experiment has a normalized set without {fold} in its path")
    return paths


def draw_fig8(config: PaperConfig) -> list[Path]:
    """OUT/fig8-EXPERIMENT.png: mean gate of each expert of M_o over pictures that show a target."""
    paths = []
    for name, place in list_places(config).items():
        crossval, absent = build_crossval(config, name, place, ["norface"])
        if crossval is None:
            raise CorpusError(f"fig8: {name} has {absent['norface']}")
        if config.train:
            train_settings(crossval)
        tasks = [
            FoldTask("norface", seed, fold)
            for seed in crossval.seeds
            for fold in list_folds(crossval)
        ]
        drawn = draw_routing(
            {task.fold: read_routing(fold_config(crossval, task), crossval.folder / task.name)
             for task in tasks[: len(list_folds(crossval))]},
            name,
        )  # fmt: skip
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
