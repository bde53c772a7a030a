"""Folds of cross-validations side by side, with paired tests.

Each RUN is the folder of a cross-validation (all its settings), of one setting or fold below it, or
a parquet file of predictions. All must test the same samples in the same folds; the first setting
is the baseline that the others are tested against. --mlflow reads the same from MLflow: the name of
an experiment (all its cross-validations), or the id of a run.

Example:
    norface compare runs/crossval
    norface compare runs/plain/without runs/moe/without --html compare.html
    norface compare runs/bp4d --paper table1 --metric f1
    norface compare --mlflow bp4d-au --uri http://127.0.0.1:5000 --baseline without
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument(
        "--mlflow", action="append", default=[], metavar="NAME", help="experiment or run in MLflow"
    )
    parser.add_argument("--uri", help="MLflow's store (default: MLFLOW_TRACKING_URI)")
    parser.add_argument("--baseline", metavar="SETTING", help="what the others are tested against")
    parser.add_argument(
        "--only", action="append", metavar="SETTING", help="this setting; may be given often"
    )
    parser.add_argument(
        "--metric", action="append", metavar="NAME", help="f1, auc, accuracy or icc, by the task"
    )
    parser.add_argument("--paper", metavar="TABLE", help="the paper's row beside, e.g. table1")
    parser.add_argument("--row", help="another row of that table than the paper's own")
    parser.add_argument(
        "--html", type=Path, metavar="PAGE", help="also write a page of all metrics"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures")


def run(args: argparse.Namespace) -> None:
    """Compare and print."""
    from norface.errors import ConfigError
    from norface.evaluation.comparing import compare
    from norface.evaluation.statistics import TASK_METRICS
    from norface.report.comparison import format_comparison, write_page
    from norface.tracking import writing

    sets = choose_sets(args)
    known = TASK_METRICS[sets[0].task]
    for metric in args.metric or []:
        if metric not in known:
            raise ConfigError(f"--metric {metric}: the task {sets[0].task} has {', '.join(known)}")
    everything = args.html is not None or args.json is not None
    found = compare(sets, None if everything else args.metric or known[:1])
    if args.paper is not None:
        add_paper(found, args.paper, args.row)
    print(format_comparison(found, args.metric))
    left = [metric for metric in known if metric not in found["metrics"]]
    if left and not args.metric:
        print(f"\nalso there: --metric {' or '.join(left)}")
    if args.json is not None:
        with writing(args.json):
            args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if args.html is not None:
        write_page(found, args.html, title="Folds compared")
        print(f"\n{args.html}")


def choose_sets(args: argparse.Namespace) -> list[Any]:
    """The settings that were asked for, the baseline first. Raises NorfaceError."""
    from norface.errors import ConfigError
    from norface.evaluation.comparing import name_sets
    from norface.evaluation.fold_sources import read_folder, read_mlflow

    if not (args.runs or args.mlflow):
        raise ConfigError("nothing to compare; give a RUN folder, or --mlflow NAME")
    sets = [one for path in args.runs for one in read_folder(path)]
    sets += [one for name in args.mlflow for one in read_mlflow(name, args.uri)]
    for one, name in zip(sets, name_sets(sets), strict=True):
        one.name = name
    names = [one.name for one in sets]
    for wanted in [*(args.only or []), *([args.baseline] if args.baseline else [])]:
        if wanted not in names:
            raise ConfigError(f"no setting '{wanted}'; there are {', '.join(names)}")
    kept = [
        one for one in sets if not args.only or one.name in args.only or one.name == args.baseline
    ]
    return sorted(kept, key=lambda one: one.name != args.baseline) if args.baseline else kept


def add_paper(found: dict[str, Any], table: str, row: str | None) -> None:
    """Put the paper's numbers beside ours, metric by metric. Raises ConfigError."""
    from norface.paper.beside import find_paper_row

    for metric, one in found["metrics"].items():
        one["paper"] = find_paper_row(
            table, corpus=found["corpus"], task=found["task"], metric=metric, row=row
        )
