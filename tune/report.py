"""A sweep as a page: parallel coordinates, importances, best so far, every trial.

python -m tune.report runs/experts
"""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from norface import __version__
from norface.cli.arguments import Parser
from norface.config import load_config
from norface.errors import CheckpointError, NorfaceError
from norface.report.build import REPORT_FILE, KeyFigure, embed_svg
from norface.tracking import CONFIG_FILE, read_facts, replacing
from tune.config import SweepConfig
from tune.figures import (
    draw_best_so_far,
    draw_each,
    draw_importance,
    draw_parallel,
    short,
)
from tune.folder import BEST_FILE, Trial, best_trial, list_trials, reports_of, trial_folder

FEWEST_FOR_IMPORTANCE = 6
"Whole trials below which nothing is said about importance."


def write_report(folder: Path) -> Path:
    """Write SWEEP/report.html. Raises CheckpointError where there is no sweep."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    if not (folder / CONFIG_FILE).is_file() or read_facts(folder).get("kind") != "sweep":
        raise CheckpointError(f"{folder}: is no sweep; give the folder of one, ROOT/NAME")
    config = load_config(SweepConfig, folder / CONFIG_FILE)
    trials, metric = list_trials(folder), read_facts(folder)["tags"]["metric"]
    loader = ChoiceLoader([PackageLoader("tune", "."), PackageLoader("norface.report", ".")])
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(
        "sweep.html"
    )
    keys = list(config.space)
    mode = config.objective.mode
    best = best_trial(trials, mode)
    valued = [t for t in trials if t.value is not None and not math.isnan(t.value)]
    importance = measure_importance(trials, config)
    best_file = folder / BEST_FILE
    text = page.render(
        title=f"Sweep {config.name}",
        written=time.strftime("%d %B %Y, %H:%M"),
        version=__version__,
        figures=choose_figures(folder, config, trials, metric),
        about=describe(config, metric),
        parallel=embed_svg(draw_parallel(trials, config.space, metric, mode)) if valued else "",
        importance=embed_svg(draw_importance(importance, keys)) if importance else "",
        fewest=FEWEST_FOR_IMPORTANCE,
        best_so_far=embed_svg(draw_best_so_far(trials, metric, mode)) if valued else "",
        each=[embed_svg(svg) for svg in draw_each(trials, config.space, metric)] if best else [],
        names=[short(key, keys) for key in keys],
        rows=[row_of(trial, keys, best) for trial in order(trials, mode)],
        metric=metric,
        best_text=best_file.read_text(encoding="utf-8") if best_file.is_file() else "",
        refused=read_refused(folder),
    )
    path = folder / REPORT_FILE
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path


def choose_figures(
    folder: Path, config: SweepConfig, trials: Sequence[Trial], metric: str
) -> list[KeyFigure]:
    """The few figures at the top."""
    count = {state: sum(t.state == state for t in trials) for state in ("stopped", "failed")}
    best = best_trial(trials, config.objective.mode)
    figures = []
    if best is not None and best.value is not None:
        figures.append(KeyFigure(f"Best {metric}", f"{best.value:.4g}", f"trial {best.name}"))
    ended = sum(trial.ended for trial in trials)
    note = ", ".join(f"{number} {state}" for state, number in count.items() if number)
    figures.append(KeyFigure("Trials", f"{ended} of {config.trials}", note or "all whole"))
    whole = max((t.reports for t in trials if t.state == "finished"), default=0)
    counted = [t for t in trials if t.state in ("finished", "stopped")]
    done = sum(len(reports_of(trial_folder(folder, t.number))) for t in counted)
    asked = whole * len(counted)
    if config.scheduler.kind == "asha" and asked:
        saved = 1 - done / asked
        figures.append(KeyFigure("Steps saved", f"{100 * saved:.0f} %", "by stopping early"))
    seconds = sum(trial.seconds for trial in trials)
    figures.append(KeyFigure("Trials' time", f"{seconds / 60:.1f} min", "sum over trials"))
    return figures


def describe(config: SweepConfig, metric: str) -> str:
    """What was searched, in a sentence."""
    what = "F_nor" if config.stage == "nor" else "F_cla"
    return (
        f"{what}, base {config.base}: {config.objective.mode}imum of {metric} on validation"
        f" subjects; search {config.search.kind}, scheduler {config.scheduler.kind}, seed"
        f" {config.seed}. No test subject was looked at."
    )


def measure_importance(trials: Sequence[Trial], config: SweepConfig) -> dict[str, float]:
    """Key => share of the variance of the objective over whole trials (fANOVA), largest first.

    {} where there are too few trials, or nothing varies.
    """
    import optuna

    whole = [t for t in trials if t.state == "finished" and t.value is not None]
    values = {t.value for t in whole}
    if len(whole) < FEWEST_FOR_IMPORTANCE or len(values) < 2:
        return {}
    study = optuna.create_study()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = config.space
    for trial in whole:
        study.add_trial(
            optuna.trial.create_trial(
                params={key: space[key].to_drawn(trial.values[key]) for key in space},
                distributions={key: space[key].distribution() for key in space},
                value=trial.value,
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=config.seed)
        try:
            return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
        except (ValueError, RuntimeError):
            return {}


def order(trials: Sequence[Trial], mode: str) -> list[Trial]:
    """The best first; what was not finished after what was."""
    sign = -1 if mode == "max" else 1
    worst = float("inf")
    return sorted(
        trials,
        key=lambda t: (
            t.state != "finished",
            t.state != "stopped",
            worst if t.value is None or math.isnan(t.value) else sign * t.value,
            t.number,
        ),
    )


def row_of(trial: Trial, keys: Sequence[str], best: Trial | None) -> dict[str, Any]:
    """A trial's line of the table."""
    value = "" if trial.value is None else f"{trial.value:.4f}"
    return {
        "name": trial.name,
        "state": trial.state,
        "value": value,
        "reports": trial.reports,
        "seconds": f"{trial.seconds:.0f}",
        "values": [
            f"{v:.4g}" if isinstance(v, float) else str(v) for v in map(trial.values.get, keys)
        ],
        "error": trial.error,
        "best": best is not None and trial.number == best.number,
    }


def read_refused(folder: Path) -> dict[str, str]:
    """Candidate target => why it was refused."""
    try:
        return dict(json.loads((folder / "refused.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page of a sweep and print its path."""
    parser = Parser("python -m tune.report", __doc__)
    parser.add_argument("folder", type=Path, metavar="SWEEP", help="folder of the sweep")
    try:
        print(write_report(parser.parse_args(arguments).folder))
    except NorfaceError as error:
        print(f"tune.report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
