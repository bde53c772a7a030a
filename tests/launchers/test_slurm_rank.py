"""Slurm's environment => torch's, and the refusal of environments that do not fit the job."""

import os
import subprocess
import sys

import pytest

from launchers.slurm_rank import rank_environment

STEP = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "20123",
    "NORFACE_WORLD_SIZE": "8",
}


def test_a_task_of_a_step_becomes_a_rank():
    assert rank_environment(STEP) == {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}


@pytest.mark.parametrize("name", sorted(STEP))
def test_a_partly_set_environment_is_refused_and_the_missing_part_named(name):
    partly = {key: value for key, value in STEP.items() if key != name}
    with pytest.raises(ValueError, match=f"{name} not set"):
        rank_environment(partly)


def test_another_number_of_tasks_than_the_job_asked_for_is_refused():
    with pytest.raises(ValueError, match="srun started 8 ranks, the job asked for 16"):
        rank_environment({**STEP, "NORFACE_WORLD_SIZE": "16"})


def test_outside_slurm_it_ends_with_2_and_one_line():
    bare = {name: value for name, value in os.environ.items() if name not in STEP}
    done = subprocess.run(
        [sys.executable, "-m", "launchers.slurm_rank", "--version"],
        env=bare, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "SLURM_PROCID" in done.stderr


def test_the_process_becomes_the_command_itself():
    done = subprocess.run(
        [sys.executable, "-m", "launchers.slurm_rank", "trian"],
        env={**os.environ, **STEP}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "unknown verb 'trian'" in done.stderr
