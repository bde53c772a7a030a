"""One trial, in a process of its own (or several, its ranks): norface's stages, with reports.

    python -m tune.trial SWEEP/trials/0007                    what a watcher starts (process.py)

A trial that was killed goes on from its stages' newest checkpoints.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from norface.allocator import keep_freed_memory
from norface.cli.arguments import Parser
from norface.config import load_config, read_yaml
from norface.errors import CheckpointError, ConfigError, NorfaceError
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, fold_config
from norface.tracking import CONFIG_FILE, read_metrics
from norface.training.agreement import on_main
from norface.training.backends.base import Backend
from norface.training.preemption import RESUME_CODE, StoppedOnRequest, catch_stop_signals
from norface.training.run import run_stage
from norface.training.stage import Stage, StageConfig
from norface.training.stages.nor_config import NorConfig
from tune.base import Base
from tune.channel import Channel, Reporter, leave_with_watcher
from tune.config import TARGET, SweepConfig
from tune.folder import BASE_FILE, Trial, read_trial

LOCK_WAIT_S = 120.0
"How long a trial waits for the process of the same trial that a killed watcher left behind."


class TrialStopped(StoppedOnRequest):
    """The scheduler wants no more of this trial."""


def make_reporting(stage_class: type[Stage], reporter: Reporter, about: dict[str, Any]) -> Any:
    """The stage, reporting after each of its evaluations, and saving with them where it should.

    about: {"first": report before this stage's first, "fold", "metric", "save": bool, "measure"}.
    What earlier starts of the stage found and may not have said is said again.
    """

    class Reporting(stage_class):  # type: ignore[misc, valid-type]
        def __init__(self, config: StageConfig, backend: Backend):
            about["before"] = evaluations(config) if is_main() else []
            super().__init__(config, backend)
            self.measure = about["measure"](self) if about.get("measure") else None
            self.every = self.evaluate_every_steps or config.trainer.evaluate_every_steps
            if about["save"]:
                self.save_every_steps = self.every
            self.is_new, about["built"] = True, True

        def evaluate(self, step: int) -> dict[str, float]:
            found = super().evaluate(step) if self.measure is None else self.measure.run()
            if about["metric"] not in found:
                raise ConfigError(
                    f"objective.metric: found '{about['metric']}'; there are: {', '.join(found)}"
                )
            batch = self.config.trainer.batch_per_rank * self.backend.world_size
            number = about["first"] + -(-step // self.every)
            reporter.note(make_report(about, number, step * batch, found))
            return found

        def train_batch(self, batch: dict[str, Any], step: int) -> Any:
            if self.is_new or step % self.every == 0:
                stop = on_main(self.backend, lambda: self.is_new and repeat(reporter, about, step))
                stop = on_main(self.backend, reporter.flush) or stop
                self.is_new = False
                if stop:
                    raise TrialStopped(config_folder(self.config), step)
            return super().train_batch(batch, step)

    return Reporting


def make_report(
    about: dict[str, Any], number: int, images: int, found: dict[str, float]
) -> dict[str, Any]:
    """The message of a report; see channel.py."""
    return {"report": number, "fold": about["fold"], "images": images, "metrics": found}


def evaluations(config: StageConfig) -> list[dict[str, Any]]:
    """What a stage has measured so far: lines of its metrics.jsonl, one an evaluation."""
    lines = read_metrics(config_folder(config))
    return [line for line in lines if any(name.startswith("validation/") for name in line)]


def repeat(reporter: Reporter, about: dict[str, Any], step: int | None = None) -> bool:
    """Say what was measured until `step` (None = all); whether to stop. The watcher skips what it
    has heard."""
    stop = reporter.flush()
    for number, line in enumerate(about["before"], about["first"] + 1):
        if stop or (step is not None and line["step"] > step):
            break
        found = {
            name.removeprefix("validation/"): value
            for name, value in line.items()
            if name.startswith("validation/")
        }
        reporter.note(make_report(about, number, line.get("images", 0), found))
        # The last one of a finished stage waits for the next stage, as it would have otherwise.
        if step is not None or number < about["first"] + len(about["before"]):
            stop = reporter.flush()
    return stop


def config_folder(config: StageConfig) -> Path:
    """The run folder of a stage."""
    return config.root / config.name


def run_trial(
    sweep: SweepConfig, base: Base, folder: Path, trial: Trial, reporter: Reporter
) -> None:
    """Train what the trial's values ask for. All ranks; raises NorfaceError, StoppedOnRequest."""
    config = base.trial_config(trial.values, folder, f"run{trial.generation}")
    about = {"save": sweep.scheduler.kind == "pbt", "metric": base.metric}
    if isinstance(config, NorConfig):
        from norface.training.stages.nor import NorStage
        from tune.measure import Measure

        about |= {"first": 0, "fold": 0, "measure": lambda stage: Measure(sweep.measure, stage)}
        run_one(NorStage, config, reporter, about)
        return
    assert isinstance(config, CrossvalConfig)
    from norface.training.stages.cla import ClaStage

    for number, fold in enumerate(base.folds()):
        if sweep.normalize is not None:
            config = use_target(sweep, base, config, trial.values[TARGET], fold)
        setting = next(iter(config.settings))
        one = fold_config(config, FoldTask(setting, config.seeds[0], fold))
        one = one.model_copy(update={"tracking": config.tracking})
        run_one(ClaStage, one, reporter, about | {"first": number * one.epochs, "fold": number})


def run_one(
    stage_class: type[Stage], config: StageConfig, reporter: Reporter, about: dict[str, Any]
) -> None:
    """Train a stage; where it is trained already, say again what it found."""
    about = {**about, "before": evaluations(config), "built": False}
    # A trial's first step says reports and hears answers, which no dry run may; and weights that
    # another trial may take over are on disk before their report is said.
    changes = {"dry_run": False} | ({"save_in_background": False} if about["save"] else {})
    trainer = config.trainer.model_copy(update=changes)
    config = config.model_copy(update={"trainer": trainer})
    run_stage(make_reporting(stage_class, reporter, about), config)
    if not about["built"] and is_main():
        repeat(reporter, about)


def use_target(
    sweep: SweepConfig, base: Base, config: CrossvalConfig, target: str, fold: str
) -> CrossvalConfig:
    """The config with the faces normalized to this target; they are normalized where they are not.

    All ranks call it: the first does the work, the others find it done.
    """
    from tune.candidates import normalize_with

    assert sweep.normalize is not None
    path = normalize_with(sweep.normalize, target, fold)
    name = base.setting_name()
    setting = {"normalized": [path]}
    return config.model_copy(update={"settings": CrossvalConfig(settings={name: setting}).settings})


def is_main() -> bool:
    """Whether this process is rank 0."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The trial is this process's alone; waits for one that is still saving."""
    if not is_main():
        yield
        return
    deadline = time.monotonic() + LOCK_WAIT_S
    with open(folder / ".lock", "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise CheckpointError(
                        f"{folder}: another process still runs this trial; end it, and start again"
                    ) from None
                time.sleep(0.2)
        yield


def main() -> int:
    """Run the trial of a folder; exit codes as everywhere, 0 also where it was stopped early."""
    parser = Parser("python -m tune.trial", __doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    keep_freed_memory()
    channel = Channel() if is_main() else None
    if channel is None:
        leave_with_watcher()
    reporter = Reporter(channel.report if channel else lambda message: False)
    say = channel.say if channel else lambda message: None
    with catch_stop_signals():
        try:
            sweep = load_config(SweepConfig, folder.parents[1] / CONFIG_FILE)
            trial = read_trial(folder)
            assert trial is not None, folder
            base = Base(sweep, read_yaml(folder.parents[1] / BASE_FILE))
            with locked(folder):
                run_trial(sweep, base, folder, trial, reporter)
                reporter.flush()
            say({"done": True})
        except TrialStopped:
            return 0
        except NorfaceError as error:
            print(f"trial {folder.name}: {error}", file=sys.stderr, flush=True)
            say({"failed": str(error)})
            return 2
        except SystemExit as error:
            if not isinstance(error.code, str):
                raise
            # Another rank is gone (norface.training.run): nothing that this one did wrong.
            print(f"trial {folder.name}: {error.code}", file=sys.stderr, flush=True)
            return RESUME_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main())
