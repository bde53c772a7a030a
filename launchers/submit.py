"""Queue a `norface` command on a Slurm cluster through submitit.

    python -m launchers.submit --cluster configs/cluster/cpu.yaml -- train nor -c CONFIG key=value
    python -m launchers.submit --nodes 4 --gpus-per-node 8 --time 24:00:00 -- train nor -c CONFIG

The cluster's facts (partition, account, time) come from the file; options win over it. The job runs
the code and the config as they were now, from a snapshot in the run folder. A time-limited or
preempted job saves, is queued again and goes on. --dry-run prints the script and queues nothing.
Needs `pip install norface[cluster]`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchers.cluster import ClusterConfig, export_lines, job_environment, setup_lines
from launchers.snapshot import freeze
from norface.cli.arguments import Parser
from norface.config import load_config
from norface.errors import ConfigError, LaunchError, NorfaceError
from norface.training.preemption import RESUME_CODE

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission


REQUEUED_WITHIN_S = 120
"How long a rank that has saved waits for rank 0 to queue the job again."


class RankJob:
    """One rank: runs `python -m norface COMMAND` on its node and waits for it."""

    def __init__(self, command: Sequence[str]):
        self.command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False

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
            "MASTER_PORT": os.environ["NORFACE_PORT"],
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "norface", *self.command], env=environment
        )
        code = self._process.wait()
        if code == RESUME_CODE and not self._asked:
            # Saved. Slurm would end others with this one (--kill-on-bad-exit) before rank 0
            # has queued the job again, which then ends them all.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if job.global_rank == 0:
                requeue(job.job_id)
            time.sleep(REQUEUED_WITHIN_S)
        if code != 0:
            verb = " ".join(self.command)
            raise RuntimeError(f"norface {verb}: rank {job.global_rank} ended with {code}")
        return code

    def checkpoint(self) -> DelayedSubmission:
        """Called on rank 0 before the job is stopped: save on all ranks, then start again.

        A rank that does not come to a step edge in time ends itself (norface's NORFACE_GRACE_S).
        """
        import submitit

        self._asked = True
        if self._process is not None:
            self._process.send_signal(signal.SIGUSR1)
            # A signal handler calls this while `wait` above holds Popen's lock: ask the kernel.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(RankJob(self.command))


def requeue(job: str) -> None:
    """Queue a running job again whose ranks were asked to stop themselves: TERM, which Slurm sends
    at a preemption with a grace time, and for which submitit does nothing.

    A job that its owner cancelled is no longer RUNNING, and stays cancelled.
    """
    state = subprocess.run(
        ["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True, check=False
    )
    if state.stdout.strip() == "RUNNING":
        subprocess.run(["scontrol", "requeue", job], check=False)


def build_executor(config: ClusterConfig, code: Path) -> Any:
    """submitit's executor with the cluster's settings, for the packages in the folder `code`."""
    import submitit

    common = shlex.quote(str(code / "slurm" / "common.sh"))
    mounts = [str(Path.cwd()), str(code), *config.mounts]
    python, srun_args = None, ["--kill-on-bad-exit=1"]
    if config.container is not None and config.container_runtime == "apptainer":
        binds = [word for mount in mounts for word in ("--bind", mount)]
        nv = ["--nv"] if config.gpus_per_node else []
        python = shlex.join(["apptainer", "exec", *nv, *binds, config.container, "python3"])
    elif config.container is not None:
        pairs = ",".join(mount if ":" in mount else f"{mount}:{mount}" for mount in mounts)
        srun_args += [f"--container-image={config.container}", f"--container-mounts={pairs}"]
        srun_args += [f"--container-workdir={Path.cwd()}"]
        python = "python3"
    executor = submitit.SlurmExecutor(
        folder=config.logs.absolute() / "%j", max_num_timeout=config.restarts, python=python
    )
    executor.update_parameters(
        job_name=config.name,
        nodes=config.nodes,
        ntasks_per_node=config.ranks,
        cpus_per_task=config.cpus_per_rank,
        gpus_per_node=config.gpus_per_node or None,
        mem=config.memory,
        time=config.minutes,
        partition=config.partition,
        account=config.account,
        qos=config.qos,
        constraint=config.constraint,
        signal_delay_s=config.signal_before_end_s,
        # A lost node must not end the job where the cluster's own choice is JobRequeue=0.
        additional_parameters={"requeue": True},
        stderr_to_stdout=True,
        srun_args=srun_args,
        setup=[
            *setup_lines(config),
            *export_lines(job_environment(config)),
            f"export NORFACE_WORLD_SIZE={config.nodes * config.ranks}",
            "export NORFACE_JOB=$SLURM_JOB_ID",
            f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{config.cpus_per_rank}}}",
            f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
            "export PYTHONSAFEPATH=1  # not the code in the folder that it was submitted from",
            # Where the ranks find each other: this script runs on their first node. Not by the
            # name of MASTER_PORT: a job may hold one process, or start ranks of its own.
            f"NORFACE_PORT=$(bash -c 'source \"$0\"; choose_port' {common}) || exit 1",
            "export NORFACE_PORT",
            # See skip_steps in slurm/common.sh: a late kill must not hit the next start.
            "for ((i = ${SLURM_RESTART_COUNT:-0} % 4; i > 0; i--)); do srun -N1 -n1 true; done",
        ],
    )
    return executor


def add_cluster_options(parser: argparse.ArgumentParser, leave_out: Sequence[str] = ()) -> None:
    """--cluster FILE and an option for each of its settings."""
    parser.add_argument("--cluster", metavar="FILE", help="yaml of the cluster's settings")
    for name, field in ClusterConfig.model_fields.items():
        if name in leave_out:
            continue
        text = " ".join((field.description or "").split()).replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=f"_{name}", metavar="X", help=text)


def read_cluster(options: argparse.Namespace) -> ClusterConfig:
    """The file, with the options over it. Raises ConfigError."""
    overrides = []
    for name, field in ClusterConfig.model_fields.items():
        value = getattr(options, f"_{name}", None)
        if value is not None:
            is_text = field.annotation not in (int, int | None) and value[:1] not in ("[", "{")
            overrides.append(f"{name}={json.dumps(value) if is_text else value}")
    return load_config(ClusterConfig, options.cluster, overrides)


def main(arguments: Sequence[str] | None = None) -> int:
    """Queue the job and print its number."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser("python -m launchers.submit", __doc__, allow_abbrev=False)
    add_cluster_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the script; queue nothing")
    cut = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:cut])
    command = words[cut + 1 :]
    try:
        if not command:
            raise ConfigError("no command; give a norface verb after --")
        print(submit(read_cluster(options), command, dry_run=options.dry_run))
    except NorfaceError as error:
        print(f"launchers.submit: {error}", file=sys.stderr)
        return 2
    return 0


def submit(config: ClusterConfig, command: Sequence[str], *, dry_run: bool = False) -> str:
    """The job's number; with `dry_run` its script. Raises NorfaceError."""
    import submitit

    frozen = freeze(command, dry_run=dry_run)
    executor = build_executor(config, frozen.folder)
    if dry_run:
        return str(executor._make_submission_file_text(executor._submitit_command_str, "uid"))
    try:
        job = executor.submit(RankJob(frozen.command))
    except (submitit.core.utils.FailedJobError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise LaunchError(f"sbatch refused the job: {text}") from error
    return str(job.job_id)


if __name__ == "__main__":
    sys.exit(main())
