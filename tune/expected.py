"""`--dry-run`: the space, the budget, and how long it will take."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, fold_config
from norface.training.backends.base import build_backend
from norface.training.stage import Stage, StageConfig
from norface.training.stages.nor_config import NorConfig
from tune.config import TARGET
from tune.folder import list_trials
from tune.sweep import Sweep, describe_space

PROBE_S, PROBE_STEPS = 8.0, 20
START_S = 12.0
"A trial's start here: the process, its imports, its data."


def describe(sweep: Sweep) -> str:
    """Lines for the terminal. Trains some steps of a trial where none has ended yet."""
    config = sweep.config
    trials = list_trials(sweep.folder)
    ended = [trial for trial in trials if trial.ended]
    places = count_local_places(sweep)
    whole = [trial.seconds for trial in ended if trial.state == "finished"]
    if whole:
        seconds, source = sum(whole) / len(whole), f"mean of {len(whole)} finished trials"
    else:
        seconds, source = probe(sweep), "from some steps on this machine"
    left = config.trials - len(ended)
    rounds = -(-left // places)
    lines = [
        f"{sweep.folder}: stage {config.stage}, {config.objective.mode} {sweep.base.metric} on"
        f" validation subjects, search {config.search.kind}, scheduler {config.scheduler.kind}",
        "space:",
        *describe_space(config.space),
        *(f"  refused: {key}: {why}" for key, why in sweep.refused.items()),
        f"budget: {config.trials} trials ({len(ended)} ended), {sweep.reports} reports each"
        + (f" ({len(sweep.folds)} folds)" if config.stage == "cla" else ""),
        f"a trial: {config.resources.world_size} rank(s), {config.resources.cpus:g} CPUs and"
        f" {config.resources.gpus:g} GPUs each; {places} at once on this machine",
        f"expected: {format_time(seconds)} a trial ({source}), {format_time(rounds * seconds)} for"
        f" the {left} left here"
        + (", less what asha stops" if config.scheduler.kind == "asha" else ""),
    ]
    return "\n".join(lines)


def count_local_places(sweep: Sweep) -> int:
    """Trials at once on this machine, by its CPUs."""
    resources = sweep.config.resources
    fit = int((os.cpu_count() or 1) / (resources.cpus * resources.processes))
    return max(1, min(fit, resources.at_once or fit))


def format_time(seconds: float) -> str:
    """75 => 1 min 15 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def probe(sweep: Sweep) -> float:
    """Seconds of a whole trial, from some steps and one evaluation of its first values.

    Raises whatever the trial itself would raise at its start.
    """
    from tune.study import Study

    values = Study(sweep.config).propose(0, sweep.base.fits)
    with tempfile.TemporaryDirectory() as place:
        config = sweep.base.trial_config(values, Path(place))
        stage_class, one = first_stage(sweep, config, values)
        backend = build_backend(one.backend)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                stage = stage_class(one, backend)  # type: ignore[call-arg]
            step_s, evaluate_s = time_steps(stage)
        finally:
            backend.close()
    steps = stage.total_steps or 0
    return START_S + len(sweep.folds) * steps * step_s + sweep.reports * evaluate_s


def first_stage(
    sweep: Sweep, config: Any, values: dict[str, Any]
) -> tuple[type[Stage], StageConfig]:
    """The stage that a trial begins with. Faces are not normalized for it: originals do."""
    if isinstance(config, NorConfig):
        from norface.training.stages.nor import NorStage

        return NorStage, config
    assert isinstance(config, CrossvalConfig)
    from norface.training.stages.cla import ClaStage

    if TARGET in values:
        config = config.model_copy(update={"settings": CrossvalConfig().settings})
    setting = next(iter(config.settings))
    return ClaStage, fold_config(config, FoldTask(setting, config.seeds[0], sweep.folds[0]))


def time_steps(stage: Stage) -> tuple[float, float]:
    """Seconds of a step, after the first, and of an evaluation."""
    batches = iter(stage.batches(0))
    stage.train_batch(next(batches), 0)
    started, steps = time.monotonic(), 0
    while steps < PROBE_STEPS and time.monotonic() - started < PROBE_S:
        steps += 1
        stage.train_batch(next(batches), steps)
    step_s = (time.monotonic() - started) / max(steps, 1)
    started = time.monotonic()
    stage.evaluate(steps)
    return step_s, time.monotonic() - started
