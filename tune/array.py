"""Search without Ray: an array of jobs, a trial each, that share a study of Optuna.

    python -m tune.array CONFIG [key=value ...] [--cluster FILE] [--dry-run]
    python -m tune.array CONFIG [key=value ...] --here | --collect

Queues the trials that have not ended through submitit, and a summary behind them; --here runs them
as processes of this machine, --collect only sums up. Each job asks the study in
SWEEP/optuna.journal for its values and, with scheduler asha, whether to go on. Jobs run the code
and the configs as they were when they were queued. The same command again queues what is missing.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launchers.cluster import ClusterConfig
from launchers.snapshot import FOLDER, write_snapshot
from launchers.submit import build_executor
from norface.cli.arguments import Parser
from norface.config import load_config, read_yaml
from norface.errors import ConfigError, LaunchError, NorfaceError
from norface.report.build import REPORT_FILE
from norface.tracking import read_facts
from tune.config import SweepConfig
from tune.folder import BASE_FILE, ENDED, end_run, holding, list_trials, trial_folder
from tune.process import GRACE_S, TrialWatch
from tune.study import Study
from tune.sweep import Sweep, load_sweep

JOURNAL = "optuna.journal"
POLL_S = 0.1


class ArrayJob:
    """One trial of a sweep, as a job; started again it goes on with the same trial.

    The trial is watched in a thread: submitit calls `checkpoint` from a signal's handler, which
    runs in the main thread, between any two of its instructions, and may then wait for the other.
    """

    def __init__(self, config: SweepConfig, number: int, cwd: str):
        self.config, self.number, self.cwd = config, number, cwd
        self._watch: TrialWatch | None = None
        self._thread: threading.Thread | None = None
        self._leaving = False
        self._outcome: str | BaseException = ""

    def __call__(self) -> str:
        """The state in which the trial ended."""
        os.chdir(self.cwd)
        self._thread = threading.Thread(target=self._try, name="watch", daemon=True)
        self._thread.start()
        while self._thread.is_alive():
            time.sleep(POLL_S)
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def _try(self) -> None:
        try:
            self._outcome = self._run()
        except BaseException as error:
            self._outcome = error

    def _run(self) -> str:
        sweep = reopen(self.config)
        sweep.join(Study(sweep.config, open_storage(sweep.folder)))
        folder = trial_folder(sweep.folder, self.number)
        # Who queues a sweep again does not wait for what is queued already.
        busy = f"{folder}: another job runs this trial, which goes on; this one ends"
        with holding(folder / ".watched", busy):
            return self._run_alone(sweep, folder)

    def _run_alone(self, sweep: Sweep, folder: Path) -> str:
        trial = sweep.begin(self.number)
        if trial.ended:
            return trial.state
        watch = self._watch = TrialWatch({**sweep.spec(), "folder": str(folder)})
        if self._leaving:
            watch.leave()
        for line in watch.recorded:
            sweep.study.report(self.number, line)
        while (event := watch.next()).kind == "report":
            sweep.study.report(self.number, event.metrics)
            is_last = event.metrics["step"] >= sweep.reports
            stop = not is_last and sweep.study.should_stop(self.number)
            watch.answer(stop=stop)
            if stop:
                watch.close()
                break
        if event.kind == "left":
            end_run(folder, "stopped", watch.trial.reports)
            return watch.trial.state
        return sweep.end(self.number).state

    def checkpoint(self) -> Any:
        """Called before the job is stopped: the trial saves; then the job is queued again."""
        import submitit

        self._leaving = True
        if self._watch is not None:
            self._watch.leave()
        deadline = time.monotonic() + GRACE_S
        while self._thread is not None and self._thread.is_alive():
            if self._watch is not None and time.monotonic() > deadline:
                self._watch.kill()
            time.sleep(POLL_S)
        return submitit.helpers.DelayedSubmission(ArrayJob(self.config, self.number, self.cwd))


class SummaryJob:
    """What comes after the trials."""

    def __init__(self, config: SweepConfig, cwd: str):
        self.config, self.cwd = config, cwd

    def __call__(self) -> None:
        os.chdir(self.cwd)
        sum_up(reopen(self.config))


def reopen(config: SweepConfig) -> Sweep:
    """A sweep as it was prepared, whatever became of its base config since."""
    return Sweep(config, read_yaml(config.folder / BASE_FILE))


def open_storage(folder: Path) -> Any:
    """Optuna's journal in the sweep's folder, for many jobs at once on a shared file system."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    path = str(folder / JOURNAL)
    return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))


def prepare(sweep: Sweep) -> list[int]:
    """Make the sweep's folder and its study; returns the trials to run."""
    with sweep.open(rest="running"):
        Study(sweep.config, open_storage(sweep.folder))
        return sweep.numbers()


def submit(sweep: Sweep, cluster: ClusterConfig) -> list[str]:
    """Queue the trials that have not ended; returns the ids of their jobs and of the summary.

    The jobs run the code as it is now, from a snapshot in the sweep's folder.
    """
    numbers, cwd = prepare(sweep), os.getcwd()
    code = write_snapshot(sweep.folder / FOLDER, {})
    executor = build_trial_executor(sweep.config, cluster, code)
    executor.update_parameters(
        array_parallelism=sweep.config.resources.at_once or len(numbers) or 1
    )
    with executor.batch():
        jobs = [executor.submit(ArrayJob(sweep.config, number, cwd)) for number in numbers]
    ids = [job.job_id for job in jobs]
    name = f"{sweep.config.name}-summary"
    changes = {"nodes": 1, "ranks_per_node": 1, "cpus_per_rank": 1, "gpus_per_node": 0}
    executor = build_executor(cluster.model_copy(update={**changes, "name": name}), code)
    if ids:
        after = f"afterany:{ids[0].partition('_')[0]}"
        executor.update_parameters(additional_parameters={"dependency": after})
    return [*ids, executor.submit(SummaryJob(sweep.config, cwd)).job_id]


def build_trial_executor(config: SweepConfig, cluster: ClusterConfig, code: Path) -> Any:
    """submitit's executor for one trial a job: what the trial needs on one node, in one task."""
    resources = config.resources
    changes = {
        "name": config.name,
        "nodes": 1,
        "ranks_per_node": 1,
        "cpus_per_rank": max(1, math.ceil(resources.cpus * resources.processes)),
        "gpus_per_node": math.ceil(resources.gpus * resources.processes),
    }
    return build_executor(cluster.model_copy(update=changes), code)


def run_here(sweep: Sweep) -> None:
    """The same as processes of this machine, as many at once as it has CPUs for."""
    import submitit
    from submitit.core.utils import FailedJobError

    from tune.expected import count_local_places

    numbers, places = prepare(sweep), count_local_places(sweep)
    executor = submitit.LocalExecutor(folder=sweep.folder / "jobs" / "%j")
    executor.update_parameters(timeout_min=60 * 24 * 365)
    cwd, running, failed = os.getcwd(), dict[int, Any](), list[int]()
    while numbers or running:
        while numbers and len(running) < places:
            number = numbers.pop(0)
            running[number] = executor.submit(ArrayJob(sweep.config, number, cwd))
        time.sleep(0.5)
        for number, job in list(running.items()):
            if job.done():
                try:
                    print(f"trial {number:04d} {job.result()}", flush=True)
                except FailedJobError:
                    failed.append(number)
                del running[number]
    if failed:
        raise LaunchError(
            f"trial {failed[0]:04d}: its job broke, see {sweep.folder / 'jobs'}; start again"
        )
    sum_up(sweep)


def collect(sweep: Sweep) -> None:
    """`sum_up` while jobs may still run: what has not ended stays as it is."""
    sum_up(sweep, rest=read_facts(sweep.folder).get("status", "running"))


def sum_up(sweep: Sweep, rest: str = "stopped") -> None:
    """Sum up the trials that ended, and bring MLflow up to date.

    `rest`: the status of a sweep of which trials are left; stopped = none of them runs.
    """
    with sweep.open(rest) as run:
        if rest == "stopped":
            sweep.interrupted()
        ended = [trial for trial in list_trials(sweep.folder) if trial.state in ENDED]
        print(f"{len(ended)} of {sweep.config.trials} trials have ended", flush=True)
        sweep.sum_up()
        run.log_artifact(sweep.folder / REPORT_FILE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line; prints the jobs' ids."""
    parser = Parser("python -m tune.array", __doc__)
    parser.add_argument("config", type=Path, help="yaml of the sweep")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--cluster", type=Path, help="yaml of the cluster's settings")
    parser.add_argument("--here", action="store_true", help="as processes of this machine")
    parser.add_argument("--collect", action="store_true", help="sum up what the jobs did")
    parser.add_argument("--dry-run", action="store_true", help="space, budget and expected time")
    given = parser.parse_intermixed_args(arguments)
    try:
        sweep = Sweep(load_sweep(given.config, given.overrides))
        if sweep.config.scheduler.kind == "pbt":
            raise ConfigError("scheduler pbt needs Ray: python -m tune.search; here asha or none")
        if sweep.config.resources.nodes > 1:
            raise ConfigError("resources.nodes: trials of several nodes need Ray (slurm/tune.sh)")
        if given.dry_run:
            from tune.expected import describe

            print(describe(sweep))
        elif given.collect:
            collect(sweep)
        elif given.here:
            run_here(sweep)
        else:
            if shutil.which("sbatch") is None:
                raise LaunchError("no sbatch here; run the trials on this machine with --here")
            print(" ".join(submit(sweep, load_config(ClusterConfig, given.cluster))))
    except NorfaceError as error:
        print(f"tune.array: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
