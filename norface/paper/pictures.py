"""Figures of the paper that show normalized faces: 3, 4 (with F_cla's results), 5, 6, 9."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from norface.errors import CorpusError
from norface.images import resize_pixels
from norface.paper.config import ExperimentPlace, PaperConfig
from norface.paper.experiments import Measured, list_places, run_experiment
from norface.paper.faces import Faces, Row, choose_faces, read_faces
from norface.paper.published import MEAN
from norface.paper.settings import read_classifier
from norface.paper.study import write_study
from norface.report.figures import COLOURS, INK, RULE
from norface.tracking import replacing

WIDEST = 128
"Side of a face in it."
BARS = 2.6
"Inches below the faces of Figure 4."


class NothingToDraw(CorpusError):
    """No experiment has what a figure shows; `norface paper all` goes on without it."""


def draw_fig3(config: PaperConfig) -> list[Path]:
    """OUT/fig3-EXPERIMENT.png: originals above, and below them a row a normalized set."""
    return _draw_each(config, 3, "a normalized set", lambda faces: faces.of(faces.place.sets))


def draw_fig5(config: PaperConfig) -> list[Path]:
    """OUT/fig5-EXPERIMENT.png: originals, other people's normalizers, and F_nor; .csv and .md: the
    paper's user study, and a measure beside it."""

    def rows(faces: Faces) -> list[Row]:
        place = faces.place
        others = [(name, read_faces(folder, faces.keys)) for name, folder in place.others.items()]
        ours = faces.of({"Norface": place.sets.get("norface", [])})
        return [*others, *ours] if others else []

    paths = _draw_each(config, 5, "somebody else's pictures (others: {METHOD: FOLDER})", rows)
    for name, place in config.experiments.items():
        if place.others:
            paths += write_study(config, name)
    return paths


def draw_fig6(config: PaperConfig) -> list[Path]:
    """OUT/fig6-EXPERIMENT.png: originals, F_nor without L_exp where there is one, without L_eye,
    with both."""
    names = {"without_exp": "w/ L_eye", "without_eye": "w/ L_exp", "norface": "w/ L_exp & L_eye"}

    def rows(faces: Faces) -> list[Row]:
        sets = faces.place.sets
        if not {"without_eye", "norface"} <= set(sets):
            return []
        return faces.of({label: sets[name] for name, label in names.items() if name in sets})

    needs = "the sets norface and without_eye (stand_in.normalizer_images for synthetic faces)"
    return _draw_each(config, 6, needs, rows)


def draw_fig9(config: PaperConfig) -> list[Path]:
    """OUT/fig9-EXPERIMENT.png: originals above, a row a target identity, its face at the left."""
    needs = "target identities (targets: {NAME: [SET]})"
    return _draw_each(config, 9, needs, lambda faces: faces.of(faces.place.targets))


def draw_fig4(config: PaperConfig) -> list[Path]:
    """OUT/fig4-EXPERIMENT.png and .csv: Figure 9, and below it the mean metric of each target."""
    paths = []
    for name, place in places_with_targets(config).items():
        task = read_classifier(config, name, place).get("task", "au")
        # The figure is of action units.
        if not place.targets or task == "emotion":
            continue
        faces = choose_faces(config, name, place)
        rows = faces.of(place.targets)
        settings = {"w/o Idn": "without"} | {one: f"target-{one}" for one in place.targets}
        given = config.model_copy(update={"experiments": {name: place}, "protocols": None})
        outcome = run_experiment(given, name, task, list(settings.values()))
        metric = "icc" if task == "intensity" else "f1"
        found = {
            label: outcome.settings[one] for label, one in settings.items()
            if one in outcome.settings
        }  # fmt: skip
        figure = draw_sheet([("original", faces.originals()), *rows], more_height=BARS)
        share = BARS / figure.get_figheight()
        draw_targets(figure.add_axes((0.07, 0.14 * share, 0.91, 0.64 * share)), found, metric)
        figure.suptitle(f"Figure 4, {name}", x=0.01, ha="left", fontsize=11, color=INK)
        paths += [_save(figure, config.out / f"fig4-{name}.png")]
        paths += [_write_csv(config.out / f"fig4-{name}.csv", found, metric, outcome.absent)]
    if not paths:
        raise NothingToDraw(
            "fig4: no experiment of action units has target identities (targets: {NAME: [SET]})"
        )
    return paths


def places_with_targets(config: PaperConfig) -> dict[str, ExperimentPlace]:
    """The places; the stand-in's with target identities, which are rendered where they are not."""
    places = list_places(config)
    if config.experiments or not places:
        return places
    from norface.paper.stand_in import write_candidates

    sets = write_candidates(config, places["synthetic"].shards[0])
    targets = {name: [one] for name, one in sets.items()}
    return {
        name: place.model_copy(update={"targets": targets})
        for name, place in places.items() if name == "synthetic"
    }  # fmt: skip


def _draw_each(
    config: PaperConfig, number: int, needs: str, rows_of: Callable[[Faces], list[Row]]
) -> list[Path]:
    """A picture of the rows of every experiment, once a corpus."""
    paths, seen = [], set()
    places = places_with_targets(config) if number == 9 else list_places(config)
    for name, place in places.items():
        faces = choose_faces(config, name, place)
        rows, shards = rows_of(faces), str(place.shards)
        if not rows or shards in seen:
            continue
        seen.add(shards)
        figure = draw_sheet([("original", faces.originals()), *rows])
        figure.suptitle(f"Figure {number}, {name}", x=0.01, ha="left", fontsize=11, color=INK)
        paths.append(_save(figure, config.out / f"fig{number}-{name}.png"))
    if not paths:
        raise NothingToDraw(f"fig{number}: no experiment has {needs}")
    return paths


def draw_sheet(rows: Sequence[Row], *, more_height: float = 0) -> Figure:
    """A figure of labelled rows of faces, with `more_height` empty inches below them.

    Rows that have one place less than the longest begin one place later.
    """
    columns, size = max(len(faces) for _, faces in rows), 1.05
    height = size * len(rows) + 0.4
    figure = Figure(figsize=(size * columns + 1.5, height + more_height))
    places = figure.add_gridspec(
        len(rows), columns, left=1.4 / (size * columns + 1.5), right=0.995, wspace=0.03,
        hspace=0.03, bottom=(more_height + 0.05) / (height + more_height),
        top=1 - 0.35 / (height + more_height),
    )  # fmt: skip
    for number, (label, faces) in enumerate(rows):
        offset = columns - len(faces)
        for place, face in enumerate(faces):
            if face is None:
                continue
            axes = figure.add_subplot(places[number, place + offset])
            axes.imshow(resize_pixels(face, min(len(face), WIDEST)), interpolation="nearest")
            axes.set_axis_off()
        bottom = places[number, 0].get_position(figure)
        figure.text(
            1.3 / (size * columns + 1.5), (bottom.y0 + bottom.y1) / 2, label, ha="right",
            va="center", fontsize=9 if "\n" not in label else 7, color=INK,
        )  # fmt: skip
    return figure


def draw_targets(axes: Axes, found: Mapping[str, Measured], metric: str) -> None:
    """A bar a setting with its 95 % interval by persons."""
    for number, one in enumerate(found.values()):
        value = one.values[metric][MEAN]
        axes.bar(number, value, 0.6, color=COLOURS[min(number, 1)])
        if one.interval is not None:
            axes.plot([number] * 2, one.interval, color=INK, linewidth=1.4)
        text = f"{value:.1f}" if metric == "f1" else f"{value:.2f}"
        axes.text(number + 0.06, value, text, va="bottom", fontsize=8, color=INK)
    axes.set_xticks(range(len(found)), list(found), fontsize=8)
    axes.set_title(f"{metric}, mean of the units, 95 % by persons", loc="left", fontsize=9)
    axes.margins(y=0.15)
    axes.grid(True, axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _write_csv(
    path: Path, found: Mapping[str, Measured], metric: str, absent: Mapping[str, str]
) -> Path:
    with replacing(path) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["target", "metric", "mean", "low", "high", "why_absent"])
        for label, one in found.items():
            low, high = one.interval or (None, None)
            writer.writerow([label, metric, one.values[metric][MEAN], low, high, ""])
        for setting, why in absent.items():
            writer.writerow([setting.removeprefix("target-"), metric, "", "", "", why])
    return path


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=130)
    return path
