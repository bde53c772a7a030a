"""Search without Ray: an array of jobs, a trial each, that share a study of Optuna.

    python -m tune.array CONFIG [key=value ...] [--cluster FILE] [--dry-run]
    python -m tune.array CONFIG [key=value ...] --collect

Queues the trials that have not ended through submitit (on Slurm, or as processes here where there
is no Slurm), and a summary behind them. Each job asks the study in SWEEP/optuna.journal for its
values and, with scheduler asha, whether to go on. The same command again queues what is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launchers.submit import ClusterConfig
from norface.config import load_config
from norface.errors import ConfigError, NorfaceError
from norface.mlflow_feed import sync
from tune.config import SweepConfig
from tune.folder import ENDED, list_trials, trial_folder
from tune.process import TrialWatch
from tune.study import Study
from tune.sweep import Sweep, load_sweep

JOURNAL = "optuna.journal"


class ArrayJob:
    """One trial of a sweep, as a job; started again it goes on with the same trial."""

    def __init__(self, config: SweepConfig, number: int, cwd: str):
        self.config, self.number, self.cwd = config, number, cwd
        self._watch: TrialWatch | None = None

    def __call__(self) -> str:
        """The state in which the trial ended."""
        os.chdir(self.cwd)
        sweep = Sweep(self.config)
        sweep.join(Study(sweep.config, open_storage(sweep.folder)))
        trial = sweep.begin(self.number)
        if trial.ended:
            return trial.state
        folder = str(trial_folder(sweep.folder, self.number))
        self._watch = TrialWatch({**sweep.spec(), "folder": folder})
        for line in self._watch.recorded:
            sweep.study.report(self.number, line)
        while (event := self._watch.next()).kind == "report":
            sweep.study.report(self.number, event.metrics)
            is_last = event.metrics["step"] >= sweep.reports
            stop = not is_last and sweep.study.should_stop(self.number)
            self._watch.answer(stop=stop)
            if stop:
                self._watch.close()
                break
        return sweep.end(self.number).state

    def checkpoint(self) -> Any:
        """Called before the job is stopped: the trial saves; then the job is queued again."""
        import submitit

        if self._watch is not None:
            self._watch.close()
        return submitit.helpers.DelayedSubmission(ArrayJob(self.config, self.number, self.cwd))


class SummaryJob:
    """What comes after the trials."""

    def __init__(self, config: SweepConfig, cwd: str):
        self.config, self.cwd = config, cwd

    def __call__(self) -> None:
        os.chdir(self.cwd)
        collect(Sweep(self.config))


def open_storage(folder: Path) -> Any:
    """Optuna's journal in the sweep's folder, for many jobs at once on a shared file system."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    path = str(folder / JOURNAL)
    return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))


def submit(sweep: Sweep, cluster: ClusterConfig) -> list[str]:
    """Queue the trials that have not ended; returns the ids of their jobs and of the summary."""
    import submitit

    with sweep.open():
        numbers = sweep.numbers()
        Study(sweep.config, open_storage(sweep.folder))
    resources, config = sweep.config.resources, sweep.config
    executor = submitit.AutoExecutor(folder=cluster.logs.absolute() / "%j")
    has_slurm = shutil.which("srun") is not None
    executor.update_parameters(
        name=config.name,
        timeout_min=cluster.minutes,
        nodes=1,
        tasks_per_node=1,
        cpus_per_task=max(1, round(resources.cpus * resources.processes)),
        **(
            {"gpus_per_node": round(resources.gpus * resources.processes)} if resources.gpus else {}
        ),
        **(
            {
                "slurm_array_parallelism": resources.at_once or len(numbers) or 1,
                "slurm_partition": cluster.partition,
                "slurm_account": cluster.account,
                "slurm_constraint": cluster.constraint,
                "slurm_signal_delay_s": cluster.signal_before_end_s,
                "stderr_to_stdout": True,
            }
            if has_slurm
            else {}
        ),
    )
    cwd = os.getcwd()
    with executor.batch():
        jobs = [executor.submit(ArrayJob(config, number, cwd)) for number in numbers]
    ids = [job.job_id for job in jobs]
    if not has_slurm:
        for job in jobs:
            job.wait()
        collect(sweep)
        return ids
    array = ids[0].partition("_")[0] if ids else None
    executor.update_parameters(
        name=f"{config.name}-summary",
        **({"slurm_additional_parameters": {"dependency": f"afterany:{array}"}} if array else {}),
    )
    return [*ids, executor.submit(SummaryJob(config, cwd)).job_id]


def collect(sweep: Sweep) -> None:
    """Sum up the trials that ended, and bring MLflow up to date."""
    with sweep.open() as run:
        ended = [trial for trial in list_trials(sweep.folder) if trial.state in ENDED]
        print(f"{len(ended)} of {sweep.config.trials} trials have ended", flush=True)
        sweep.sum_up()
        run.finish("finished" if len(ended) == sweep.config.trials else "stopped")
    if sweep.config.tracking.mlflow:
        try:
            sync([sweep.folder, *(trial_folder(sweep.folder, t.number) for t in ended)])
        except NorfaceError as error:
            print(f"MLflow is not up to date: {error}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line; prints the jobs' ids."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.array",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="yaml of the sweep")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--cluster", type=Path, help="yaml of the cluster's settings")
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
        else:
            print(" ".join(submit(sweep, load_config(ClusterConfig, given.cluster))))
    except NorfaceError as error:
        print(f"tune.array: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
