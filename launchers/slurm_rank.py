"""One rank of a Slurm job: Slurm's environment => torch's, then `norface` in this very process.

    srun --ntasks-per-node=8 python -m launchers.slurm_rank train nor -c CONFIG

The job script exports MASTER_ADDR, MASTER_PORT and NORFACE_WORLD_SIZE. The process is replaced
rather than wrapped, so that Slurm's signals reach the training and its exit code reaches Slurm.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

EXPORTED_BY_JOB = ("MASTER_ADDR", "MASTER_PORT", "NORFACE_WORLD_SIZE")
GIVEN_BY_SRUN = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")


def rank_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What torch wants to know: RANK, LOCAL_RANK, WORLD_SIZE.

    Raises ValueError where the environment is only partly set, or where srun started another
    number of tasks than the job script asked for.
    """
    missing = [name for name in GIVEN_BY_SRUN + EXPORTED_BY_JOB if not environment.get(name)]
    if missing:
        raise ValueError(f"{', '.join(missing)} not set; start it through a script of slurm/")
    started, asked = environment["SLURM_NTASKS"], environment["NORFACE_WORLD_SIZE"]
    if started != asked:
        raise ValueError(f"srun started {started} ranks, the job asked for {asked}")
    return {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "WORLD_SIZE": started,
    }


def main() -> None:
    """Become `python -m norface ARGUMENTS`."""
    try:
        found = rank_environment(os.environ)
    except ValueError as error:
        print(f"launchers.slurm_rank: {error}", file=sys.stderr)
        sys.exit(2)
    os.execve(
        sys.executable, [sys.executable, "-m", "norface", *sys.argv[1:]], {**os.environ, **found}
    )


if __name__ == "__main__":
    main()
