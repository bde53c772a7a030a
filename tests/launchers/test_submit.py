"""The script that submitit gets, and what a wrong request is told; tests/slurm has a real queue."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from launchers.submit import RankJob, main
from norface.training.preemption import RESUME_CODE

pytest.importorskip("submitit")

SHIPPED = Path(__file__).parents[2] / "configs" / "cluster" / "cpu.yaml"
TRAIN = ["--", "train", "nor", "data.shards=[shards]", "name=demo"]


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """A function that gives the script of a request, for an sbatch that is never called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(*options: str) -> str:
        assert main([*options, "--dry-run", *TRAIN]) == 0
        return str(capsys.readouterr().out)

    return make


def test_options_win_over_the_file_and_nothing_is_written(script, tmp_path):
    text = script(
        "--cluster", str(SHIPPED), "--nodes", "4", "--gpus-per-node", "8", "--time", "1:30:00",
        "--partition", "long", "--account", "mine", "--constraint", "a100", "--memory", "64G",
    )  # fmt: skip
    for line in ("nodes=4", "ntasks-per-node=1", "gpus-per-node=8", "time=90", "partition=long",
                 "account=mine", "constraint=a100", "mem=64G", "signal=USR2@180"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in text
    assert "export NORFACE_WORLD_SIZE=4\n" in text
    assert f"export PYTHONPATH={tmp_path}/runs/demo/submitted/" in text
    assert not (tmp_path / "runs").exists()


def test_a_lost_node_queues_the_job_again_whatever_the_clusters_default_is(script):
    assert "#SBATCH --requeue\n" in script()


def test_what_is_not_set_is_left_to_the_cluster(script):
    text = script()
    for word in ("partition", "account", "constraint", "gpus", "qos", "mem", "container"):
        assert f"#SBATCH --{word}" not in text


def test_a_container_runs_the_ranks_in_either_way(script, tmp_path):
    text = script("--container", "my image.sif", "--gpus-per-node", "2", "--mounts", "[/data]")
    assert f"apptainer exec --nv --bind {tmp_path} --bind {tmp_path}/runs/demo" in text
    assert "--bind /data 'my image.sif' python3 -u -m submitit" in text
    text = script("--container", "me/norface:1", "--container-runtime", "enroot")
    assert f"--container-image=me/norface:1 --container-mounts={tmp_path}:{tmp_path}," in text
    assert " python3 -u -m submitit" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "0", *TRAIN], "'nodes': found 0"),
        (["--nodes", "2"], "give a norface verb after --"),
        (["--cluster", "none.yaml", *TRAIN], "none.yaml: no such config file"),
        (["--", "trian"], "unknown verb 'trian'"),
        (["--", "train", "nor", "data.shards=[x]", "data.worker=1"], "did you mean 'workers'"),
    ],
)
def test_a_wrong_request_is_one_line_and_2(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_token_of_the_environment_reaches_script_or_snapshot(script, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "very-secret")
    assert "very-secret" not in script()
    from launchers.snapshot import freeze

    frozen = freeze(TRAIN[1:])
    texts = [path.read_bytes() for path in frozen.folder.rglob("*") if path.is_file()]
    assert texts and not any(b"very-secret" in text for text in texts)
    assert json.dumps(frozen.command).count("very-secret") == 0


@pytest.mark.parametrize(
    ("state", "rank", "requeued"),
    [("RUNNING", "0", True), ("RUNNING", "1", False), ("COMPLETING", "0", False)],
)
def test_ranks_that_were_asked_by_slurm_itself_are_queued_again_by_the_first(
    state, rank, requeued, tmp_path, monkeypatch
):
    # TERM at a preemption with a grace time reaches the ranks; submitit passes over it.
    tools = {
        "squeue": f"echo {state}",
        "scontrol": f'echo "$@" >> {tmp_path}/called',
        "python": f"exit {RESUME_CODE}",
    }
    for name, line in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("launchers.submit.REQUEUED_WITHIN_S", 0)
    for name, value in {
        "SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7", "SLURM_PROCID": rank,
        "SLURM_LOCALID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "node[1-2]",
        "NORFACE_PORT": "30000",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(RuntimeError, match=f"ended with {RESUME_CODE}"):
            RankJob(["train", "nor"])()
    finally:
        signal.signal(signal.SIGTERM, before)
    called = tmp_path / "called"
    assert (called.read_text() if called.exists() else "") == "requeue 7\n" * requeued
