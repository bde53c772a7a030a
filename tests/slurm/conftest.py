"""A real Slurm cluster of two nodes on this machine (tests/slurm/slurm-cluster), one a test run.

Times are for a machine that does other things too: a start of the program alone can take a minute.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

TOOL = Path(__file__).with_name("slurm-cluster")
PROJECT = Path(__file__).parents[2]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")


class Cluster:
    """Nodes node1, node2 ... in partitions `all` and `urgent` (which preempts `all`)."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "NORFACE_VENV": sys.prefix,
            "OMP_NUM_THREADS": "1",
        }

    def tool(self, verb: str, *arguments: str) -> None:
        """Run the cluster tool: up, down, kill-node, restart-node."""
        self.call(str(TOOL), verb, str(self.folder), *arguments)

    def call(self, *command: str, cwd: Path | None = None, **environment: str) -> str:
        """Output of a command that must succeed."""
        done = subprocess.run(
            command,
            env={**self.environment, **environment},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, *arguments: str, cwd: Path) -> str:
        """`sbatch ARGUMENTS` in the folder `cwd`; returns the job id."""
        return self.call("sbatch", "--parsable", *arguments, cwd=cwd)

    def state(self, job: str) -> str:
        """RUNNING, PENDING, COMPLETED ..."""
        return self.call("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")

    def restarts(self, job: str) -> int:
        """How often the job was requeued."""
        found = re.search(r"Restarts=(\d+)", self.call("scontrol", "show", "job", job))
        return int(found[1]) if found else 0

    def wait_for(self, job: str, *states: str, timeout_s: float = 400) -> str:
        """Wait until the job is in one of the states (any end where none is given)."""
        return self.wait_until(
            lambda: (now := self.state(job)) in (states or ENDED) and now,
            f"job {job} to be {' or '.join(states or ('over',))}",
            timeout_s=timeout_s,
            job=job,
        )

    def wait_until(self, condition, what: str, *, timeout_s: float = 400, job: str = "") -> str:
        """Poll until the condition holds.

        On time-out, and where the job is over or waits for ever, fails with queue and log.
        """
        started = hopeful = asked = time.monotonic()
        while not (found := condition()):
            time.sleep(0.3)
            now = time.monotonic()
            if not job:
                hopeful = now
            elif now - asked > 3:
                # Less often than the condition: each question costs slurmctld and this machine.
                asked = now
                hopeful = hopeful if self.is_over(job) else now
            # A job is over for a moment before Slurm requeues it.
            if now - started > timeout_s or now - hopeful > 20:
                pytest.fail(f"waited {now - started:.0f} s for {what}\n{self.report(job)}")
        return found

    def is_over(self, job: str) -> bool:
        """Whether no task of the job will run any more."""
        tasks = self.call("squeue", "-h", "-t", "all", "-j", job, "-o", "%T %r").splitlines()
        return all(
            task.split()[0] in ENDED or task.endswith("DependencyNeverSatisfied") for task in tasks
        )

    def log(self, job: str) -> str:
        """What the job has printed so far."""
        found = re.search(r"StdOut=(\S+)", self.call("scontrol", "show", "job", job))
        path = Path(found[1]) if found else None
        return path.read_text(errors="replace") if path and path.exists() else ""

    def report(self, job: str) -> str:
        """The queue, the nodes and the end of the job's log, for messages."""
        queue = self.call("squeue", "-t", "all") + "\n" + self.call("sinfo", "-N", "-o", "%N %T %E")
        return f"{queue}\n{self.log(job)[-6000:]}" if job else queue


@contextlib.contextmanager
def start_cluster(nodes: int) -> Iterator[Cluster]:
    """A cluster of its own, taken down at the end; skips where none can be started."""
    if os.geteuid() != 0:
        pytest.skip("a Slurm cluster of namespaces needs root")
    for program in ("sbatch", "slurmctld", "slurmd", "munged", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: apt-get install slurm-wlm munge iproute2")
    # A short path: Unix sockets lie below it.
    folder = Path(tempfile.mkdtemp(prefix="norface-slurm-"))
    cluster = Cluster(folder)
    try:
        cluster.tool("up", "--nodes", str(nodes))
        yield cluster
    finally:
        cluster.tool("down")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster_of() -> Callable[[int], AbstractContextManager[Cluster]]:
    """A function that starts a cluster of so many nodes: `with cluster_of(4) as cluster`."""
    return start_cluster


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    """The cluster of two nodes, up for the whole test run."""
    with start_cluster(2) as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with both nodes up and nothing queued, before and after each test."""
    yield running_cluster
    running_cluster.call("scancel", "--user=root")
    for node in ("node1", "node2"):
        running_cluster.tool("restart-node", node)
    running_cluster.wait_until(
        lambda: running_cluster.call("squeue", "-h", "-o", "%i") == "", "an empty queue"
    )
