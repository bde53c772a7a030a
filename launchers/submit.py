"""Queue a `norface` command on a Slurm cluster through submitit.

    python -m launchers.submit -c configs/cluster/cpu.yaml nodes=2 -- train nor -c CONFIG
    python -m launchers.submit nodes=4 ranks_per_node=8 gpus_per_node=8 -- train nor -c CONFIG

The cluster's facts (partition, account, time) are settings, given as a file, as key=value or both.
A time-limited or preempted job saves, is queued again and goes on. Needs `pip install
norface[cluster]`.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from norface.config import Config, load_config
from norface.errors import ConfigError, NorfaceError

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

RESUME_CODE = 75


class ClusterConfig(Config):
    """What to ask the cluster for."""

    nodes: int = Field(1, gt=0)
    "Machines."
    ranks_per_node: int = Field(1, gt=0)
    "Processes a machine; one a GPU where there are GPUs."
    gpus_per_node: int = Field(0, ge=0)
    "GPUs a machine."
    cpus_per_rank: int = Field(1, gt=0)
    "CPUs a process, for data loading and on CPU for the training itself."
    time_min: int = Field(1440, gt=0)
    "Time limit of one start, in minutes; the job is queued again when it is over."
    partition: str | None = None
    "null = the cluster's default."
    account: str | None = None
    "null = the user's default."
    constraint: str | None = None
    "Features that the nodes must have."
    signal_before_end_s: int = Field(180, gt=0)
    "The ranks are asked to save so many seconds before the time limit."
    restarts: int = Field(100, ge=0)
    "Time limits after which a job is queued again; below 10 minutes a preemption counts too."
    logs: Path = Path("runs/submitted")
    "Folder for submitit's scripts and logs, on a file system that all nodes share."
    name: str = "norface"
    "Name of the job in the queue."


class RankJob:
    """One rank: runs `python -m norface COMMAND` on its node and waits for it."""

    def __init__(self, command: Sequence[str]):
        self.command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Exit code of the rank, 0. Raises RuntimeError on any other."""
        import submitit

        job = submitit.JobEnvironment()
        environment = {
            **os.environ,
            "RANK": str(job.global_rank),
            "LOCAL_RANK": str(job.local_rank),
            "WORLD_SIZE": str(job.num_tasks),
            "MASTER_ADDR": job.hostnames[0],
            "MASTER_PORT": str(20000 + int(job.raw_job_id) % 20000),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "norface", *self.command], env=environment
        )
        code = self._process.wait()
        if code != 0:
            verb = " ".join(self.command)
            raise RuntimeError(f"norface {verb}: rank {job.global_rank} ended with {code}")
        return code

    def checkpoint(self) -> DelayedSubmission:
        """Called on rank 0 before the job is stopped: save on all ranks, then start again."""
        import submitit

        if self._process is not None:
            self._process.send_signal(signal.SIGUSR1)
            # A signal handler calls this while `wait` above holds Popen's lock: ask the kernel.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(RankJob(self.command))


def build_executor(config: ClusterConfig) -> Any:
    """submitit's executor with the cluster's settings."""
    import submitit

    world_size = config.nodes * config.ranks_per_node
    executor = submitit.SlurmExecutor(
        folder=config.logs.absolute() / "%j", max_num_timeout=config.restarts
    )
    executor.update_parameters(
        job_name=config.name,
        nodes=config.nodes,
        ntasks_per_node=config.ranks_per_node,
        cpus_per_task=config.cpus_per_rank,
        gpus_per_node=config.gpus_per_node or None,
        time=config.time_min,
        partition=config.partition,
        account=config.account,
        constraint=config.constraint,
        signal_delay_s=config.signal_before_end_s,
        stderr_to_stdout=True,
        setup=[
            f"export NORFACE_WORLD_SIZE={world_size}",
            f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{config.cpus_per_rank}}}",
        ],
    )
    return executor


def main(arguments: Sequence[str] | None = None) -> int:
    """Queue the job and print its number."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m launchers.submit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--cluster", help="yaml of the cluster's settings")
    parser.add_argument("settings", nargs="*", help="key=value of the cluster's settings")
    try:
        cut = words.index("--") if "--" in words else len(words)
        options = parser.parse_args(words[:cut])
        command = words[cut + 1 :]
        if not command:
            raise ConfigError("no command; give a norface verb after --")
        job = build_executor(load_config(ClusterConfig, options.cluster, options.settings)).submit(
            RankJob(command)
        )
    except NorfaceError as error:
        print(f"launchers.submit: {error}", file=sys.stderr)
        return 2
    print(job.job_id)
    return 0


if __name__ == "__main__":
    sys.exit(main())
