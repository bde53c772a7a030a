"""Makes one table or picture of the paper from beginning to end, as a run that MLflow shows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from norface.errors import CorpusError
from norface.paper.compare import compare_table, read_spec
from norface.paper.config import PaperConfig
from norface.paper.corpora import check_corpora
from norface.paper.experiments import list_stand_ins, sketch_place
from norface.paper.pictures import draw_fig3, draw_fig4, draw_fig5, draw_fig6, draw_fig9
from norface.paper.published import load_table
from norface.paper.routers import draw_fig8
from norface.paper.settings import build_crossval, name_variant, read_protocol
from norface.report.paper_table import write_comparison
from norface.tracking import open_run

PICTURES: dict[str, Callable[[PaperConfig], list[Path]]] = {
    "fig3": draw_fig3,
    "fig4": draw_fig4,
    "fig5": draw_fig5,
    "fig6": draw_fig6,
    "fig8": draw_fig8,
    "fig9": draw_fig9,
}
"Figures that are pictures of data, not tables of numbers."
TRAINED_FOR = {"fig4": "without and each target", "fig8": "norface"}
"Those that show results of F_cla too."


def produce(config: PaperConfig, name: str) -> list[Path]:
    """Train what is missing, write the files into config.out; returns them. Raises NorfaceError."""
    if name in PICTURES:
        return PICTURES[name](config)
    comparison = compare_table(config, name)
    if not comparison.blocks:
        raise CorpusError(f"{name}: nothing to compare")
    paths = write_comparison(comparison, config.out)
    folder = config.root / config.name / "tables" / name
    with open_run(
        folder, kind="paper", tracking=config.tracking, root=config.root, config=config,
        tags={"table": name},
    ) as run:  # fmt: skip
        values = {}
        for record in comparison.records():
            place = f"{record['experiment']}/{record['metric']}/{record['setting']}"
            for side in ("paper", "ours"):
                if record["setting"] and record[side] is not None:
                    values[f"{place}/{record['column']}/{side}"] = record[side]
            for part in ("", "_low", "_high"):
                if (gain := record[f"norface_minus{part}"]) is not None:
                    values[f"{place}/norface_minus{part}"] = gain
        # A table that is made again, of more seeds, stands beside this one and is the newest.
        run.log(values, step=int(run.facts["starts"]) - 1)
        for path in paths:
            run.log_artifact(path)
    if not any(line.ours for block in comparison.blocks for line in block.lines):
        print(f"{name}: no number of ours; see the notes in {paths[0]}", file=sys.stderr)
    return paths


def plan(config: PaperConfig, name: str) -> list[str]:
    """What `produce` would train or leave out, a line each."""
    if name in TRAINED_FOR:
        return [f"drawn from runs of {TRAINED_FOR[name]}, which are trained where they are missing"]
    if name in PICTURES:
        return ["drawn from sets that are there"]
    published, settings = load_table(name), list(read_spec(config, name).rows.values())
    places = {
        name: config.experiments[name] for name in published.experiments
        if name in config.experiments
    }  # fmt: skip
    for name, task in list_stand_ins(config, published).items():
        places[name] = config.experiments.get(name) or sketch_place(config, task)
    lines = []
    for name, place in places.items():
        if name in config.experiments:
            check_corpora(config, name, place)
        own = read_protocol(config, name, place)
        asked = [
            name_variant(one, protocol, own)
            for one in settings for protocol in config.protocols or [own]
        ]  # fmt: skip
        crossval, absent, twins = build_crossval(config, name, place, asked)
        lines += [f"{name}: {one}" for one in (crossval.settings if crossval else [])]
        lines += [f"{name}: {one} is the {twin.why}" for one, twin in twins.items()]
        lines += [f"{name}: {one} left out, {why}" for one, why in absent.items()]
    return lines or ["no corpus of this table is given"]
