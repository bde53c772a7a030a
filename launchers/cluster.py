"""What to ask a cluster for: nodes, time, partition, container, environment.

One yaml a cluster (configs/cluster/*.yaml); jobs state what they want beyond it. No shell line is
ever made of a value by pasting: options are words of a list, lines of a script are quoted.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from norface.config import Config, Misfit


def _one_line(text: str) -> str:
    """A line break would end the comment that a #SBATCH option is, and begin a command."""
    if not text or not text.isprintable():
        raise ValueError("expected one line of printable characters")
    return text


Text = Annotated[str, AfterValidator(_one_line)]
SECRET = re.compile(r"token|passw|secret|credential|(api|access|private)_?key", re.IGNORECASE)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ClusterConfig(Config):
    """What to ask the cluster for."""

    nodes: int = Field(1, gt=0)
    "Machines."
    ranks_per_node: int | None = Field(None, gt=0)
    "Processes a machine; null = one a GPU, or one where there are no GPUs."
    gpus_per_node: int = Field(0, ge=0)
    "GPUs a machine."
    cpus_per_rank: int = Field(1, gt=0)
    "CPUs a process, for data loading and on CPU for the training itself."
    memory: Text | None = None
    "Memory a machine, as Slurm writes it: 64G; null = the cluster's default, 0 = all."
    time: str = "1-00:00:00"
    "Time limit of one start: minutes, HH:MM:SS or D-HH[:MM[:SS]]; then it is queued again."
    partition: Text | None = None
    "null = the cluster's default."
    account: Text | None = None
    "null = the user's default."
    qos: Text | None = None
    "Quality of service; null = the user's default."
    constraint: Text | None = None
    "Features that the nodes must have."
    container: Text | None = None
    """Image in which the ranks run: a .sif file or URL for apptainer, what `srun --container-image`
    takes for enroot. It must hold a python3 with what norface needs; the code is ours."""
    container_runtime: Literal["apptainer", "enroot"] = "apptainer"
    "enroot = through the pyxis plugin of Slurm."
    mounts: list[Text] = []
    "Folders that the container sees beside the one the job was submitted from: PATH or PATH:PATH."
    modules: list[Text] = []
    "Modules to load at the start of the job, in this order."
    exports: dict[str, Text] = {}
    "Variables to set at the start of the job. No tokens: those come from your own environment."
    signal_before_end_s: int = Field(180, gt=30)
    "The ranks are asked to save so many seconds before the time limit."
    restarts: int = Field(100, ge=0)
    """Time limits after which `launchers.submit` queues a job again; below 10 minutes a preemption
    counts too."""
    logs: Path = Path("runs/submitted")
    "Folder for submitit's scripts and logs, on a file system that all nodes share."
    name: Text = "norface"
    "Name of the job in the queue."

    @field_validator("time", mode="before")
    @classmethod
    def _refuse_numbers(cls, time: object) -> object:
        if isinstance(time, int):  # yaml reads 24:00:00 as a number of base 60
            raise ValueError("yaml took it for a number; put it in quotes: '24:00:00'")
        return time

    @field_validator("time")
    @classmethod
    def _check_time(cls, time: str) -> str:
        if minutes_of(time) is None or minutes_of(time) == 0:
            raise ValueError("expected minutes, HH:MM:SS or D-HH:MM:SS, for example 24:00:00")
        return time

    @field_validator("exports")
    @classmethod
    def _check_exports(cls, exports: dict[str, str]) -> dict[str, str]:
        for name in exports:
            if not NAME.fullmatch(name):
                raise Misfit(f"'.{name}' is no name of a variable")
            if SECRET.search(name):
                # Another ValueError would be printed with what was found.
                raise Misfit(
                    f"'.{name}' looks like a secret, and is saved with the run; set it in the"
                    " environment that you submit from"
                )
        return exports

    @property
    def ranks(self) -> int:
        """Processes a machine."""
        return self.ranks_per_node or self.gpus_per_node or 1

    @property
    def grace_s(self) -> int:
        """Seconds that ranks have to save once asked; the rest is for the script to requeue."""
        return max(self.signal_before_end_s - 30, self.signal_before_end_s // 2)

    @property
    def minutes(self) -> int:
        """Time limit in whole minutes."""
        return minutes_of(self.time) or 1


def minutes_of(time: str) -> int | None:
    """'90', '1:30:00', '2-12' => minutes, rounded up; None for another form."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not found:
        return None
    days, first, second, third = (int(part) if part else 0 for part in found.groups())
    if found[1]:
        seconds = ((days * 24 + first) * 60 + second) * 60 + third
    elif found[4]:
        seconds = (first * 60 + second) * 60 + third
    else:  # Slurm's own reading: MM and MM:SS
        seconds = first * 60 + second
    return -(-seconds // 60)


def sbatch_options(config: ClusterConfig) -> list[str]:
    """Options of sbatch for a script of slurm/, one word each."""
    values: Mapping[str, object] = {
        "nodes": config.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": config.ranks * config.cpus_per_rank,
        "gpus-per-node": config.gpus_per_node or None,
        "mem": config.memory,
        "time": config.time,
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "constraint": config.constraint,
        "signal": f"B:USR1@{config.signal_before_end_s}",
    }
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


def job_environment(config: ClusterConfig) -> dict[str, str]:
    """What the scripts of slurm/ read of these settings."""
    return {"NORFACE_RANKS_PER_NODE": str(config.ranks), "NORFACE_GRACE_S": str(config.grace_s)}


def setup_lines(config: ClusterConfig) -> list[str]:
    """Lines of bash that prepare a job: modules, variables, container; every value quoted."""
    variables = dict(config.exports)
    if config.container is not None:
        variables |= {
            "NORFACE_CONTAINER": config.container,
            "NORFACE_CONTAINER_RUNTIME": config.container_runtime,
            "NORFACE_MOUNTS": ",".join(config.mounts),
        }
    lines = [shlex.join(["module", "load", name]) for name in config.modules]
    return lines + export_lines(variables)


def export_lines(variables: Mapping[str, str]) -> list[str]:
    """Lines of bash that set variables."""
    return [f"export {name}={shlex.quote(text)}" for name, text in variables.items()]
