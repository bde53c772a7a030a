"""`sbatch slurm/pretrain_nor.sh` on two real nodes: trains, survives, ends in the same weights."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from tiny_nor import tiny_nor, write_noise

pytestmark = pytest.mark.slurm

SCRIPT = str(Path(__file__).parents[2] / "slurm" / "pretrain_nor.sh")
PROJECT = Path(__file__).parents[2]
STEPS, SAVED_EVERY, GLOBAL_BATCH = 160, 20, 4


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with tiny shards and a config that trains a tiny F_nor for some seconds."""
    folder = tmp_path_factory.mktemp("work")
    write_noise(folder / "shards")
    config = tiny_nor(steps=STEPS, batch_per_rank=GLOBAL_BATCH // 2, ranks=2, save=SAVED_EVERY)
    config["data"] = {"shards": ["shards"]}
    (folder / "nor.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def undisturbed(running_cluster, workplace) -> Path:
    """The run folder of a job on two nodes that nothing happened to."""
    job = submit(running_cluster, workplace, "undisturbed")
    assert running_cluster.wait_for(job) == "COMPLETED", running_cluster.report(job)
    assert running_cluster.restarts(job) == 0
    return workplace / "runs" / "undisturbed"


def submit(cluster, workplace: Path, name: str, *more: str, options: tuple[str, ...] = ()) -> str:
    return cluster.submit(
        "--nodes=2", *options, SCRIPT, "nor.yaml", f"name={name}", *more, cwd=workplace
    )


def newest_of(run: Path) -> str:
    """Name of the run's newest checkpoint, "" where there is none."""
    return max((path.name for path in (run / "checkpoints").glob("step-*")), default="")


def wait_for_checkpoint(cluster, job: str, run: Path, *, after: str = "") -> None:
    """Until the job runs and has saved; after a restart, more than what was there before it."""
    cluster.wait_until(lambda: newest_of(run) > after, f"a checkpoint in {run}", job=job)
    assert cluster.state(job) == "RUNNING", cluster.report(job)


def wait_for_restart(cluster, job: str, run: Path, number: int) -> None:
    """Until the job was queued again for that time, and its next start has saved."""
    cluster.wait_until(lambda: cluster.restarts(job) == number, "the requeueing", job=job)
    wait_for_checkpoint(cluster, job, run, after=newest_of(run))


def weights_of(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "generator.safetensors")


def losses_of(run: Path) -> list[dict[str, float]]:
    """What metrics.jsonl says of the training itself, without times and rates."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = ("step", "images", "adv", "rec", "loss", "discriminator", "lr")
    return [{name: line[name] for name in names if name in line} for line in lines]


def assert_same_end(run: Path, other: Path) -> None:
    """Weights and logged losses are equal bit for bit."""
    weights, others = weights_of(run), weights_of(other)
    assert weights.keys() == others.keys()
    for name, values in weights.items():
        assert values.tobytes() == others[name].tobytes(), name
    assert losses_of(run) == losses_of(other)


def test_two_nodes_train_as_one_run_of_two_ranks(undisturbed):
    steps = [line["step"] for line in losses_of(undisturbed)]
    # 4 pictures a step: 2 nodes x 1 rank x 2. One rank alone would have needed twice the steps.
    assert steps[-1] == STEPS and len(steps) == len(set(steps))
    assert all(np.isfinite(values).all() for values in weights_of(undisturbed).values())


def test_a_job_that_asks_for_another_number_of_ranks_fails_before_it_trains(cluster, workplace):
    job = submit(cluster, workplace, "wrong-number", "backend.world_size=3")
    assert cluster.wait_for(job) == "FAILED"
    assert "backend.world_size asks for 3 ranks, found 2" in cluster.log(job)
    assert "Traceback" not in cluster.log(job)
    assert not (workplace / "runs" / "wrong-number" / "metrics.jsonl").exists()


def test_a_job_that_loses_one_node_and_then_the_other_ends_in_the_same_weights(
    cluster, workplace, undisturbed
):
    job = submit(cluster, workplace, "lost-nodes")
    run = workplace / "runs" / "lost-nodes"
    wait_for_checkpoint(cluster, job, run)
    cluster.tool("kill-node", "node2")
    cluster.wait_for(job, "PENDING")
    assert not (run / "generator.safetensors").exists()
    cluster.tool("restart-node", "node2")
    # srun had asked Slurm to kill step 0 on the dead node, and Slurm asks again a minute later.
    steps = ("squeue", "-s", "-h", "-j", job, "-o", "%i")
    cluster.wait_until(lambda: f"{job}.1" in cluster.call(*steps).split(), "step 1", job=job)
    wait_for_restart(cluster, job, run, 1)
    # The batch script and the rank that writes checkpoints die with the first node, which is back
    # at once.
    cluster.tool("kill-node", "node1")
    cluster.tool("restart-node", "node1")
    assert cluster.wait_for(job) == "COMPLETED", cluster.report(job)
    assert cluster.restarts(job) == 2
    assert_same_end(run, undisturbed)


@pytest.mark.slow
def test_a_preempted_job_goes_on_a_cancelled_one_does_not_and_the_same_command_does(
    cluster, workplace, undisturbed
):
    job = submit(cluster, workplace, "stopped")
    run = workplace / "runs" / "stopped"
    wait_for_checkpoint(cluster, job, run)
    urgent = cluster.submit(
        "--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 1", cwd=workplace
    )
    assert cluster.wait_for(urgent) == "COMPLETED"
    wait_for_restart(cluster, job, run, 1)
    log = cluster.log(job)
    assert "asked to stop" in log and "going on from step" in log
    cluster.call("scancel", job)
    assert cluster.wait_for(job) == "CANCELLED"
    assert cluster.restarts(job) == 1
    again = submit(cluster, workplace, "stopped")
    assert cluster.wait_for(again) == "COMPLETED", cluster.report(again)
    assert "going on from step" in cluster.log(again)
    assert_same_end(run, undisturbed)


@pytest.mark.slow
def test_a_job_queued_by_submitit_is_requeued_and_ends_in_the_same_weights(
    cluster, workplace, undisturbed
):
    pytest.importorskip("submitit")
    run = workplace / "runs" / "submitted"
    command = ["train", "nor", "-c", "nor.yaml", "name=submitted"]
    job = cluster.call(
        sys.executable, "-m", "launchers.submit", "--nodes", "2", "--", *command, cwd=workplace
    )
    wait_for_checkpoint(cluster, job, run)
    cluster.call("scancel", "--signal=USR2", job)
    assert cluster.wait_for(job) == "COMPLETED", cluster.report(job)
    assert cluster.restarts(job) == 1
    assert_same_end(run, undisturbed)


@pytest.mark.slow
def test_a_time_limited_job_is_requeued_loses_the_controller_and_ends_in_the_same_weights(
    cluster, workplace, undisturbed
):
    # Slurm may send it half a minute before that: of three minutes, ten seconds after the start.
    job = submit(cluster, workplace, "limited", options=("--signal=B:USR1@140",))
    run = workplace / "runs" / "limited"
    wait_for_checkpoint(cluster, job, run)
    # Slurm looks at time limits every half minute: until then the ranks stand still.
    ranks = find_ranks("name=limited")
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)
    spent = cluster.call("squeue", "-h", "-j", job, "-o", "%M").split(":")
    minutes = 3 + sum(int(part) * 60**place for place, part in enumerate(reversed(spent))) // 60
    cluster.call("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
    cluster.wait_until(lambda: "asked to stop" in cluster.log(job), "Slurm's USR1", job=job)
    for pid in ranks:
        os.kill(pid, signal.SIGCONT)
    cluster.wait_until(lambda: cluster.restarts(job) == 1, "the requeueing", job=job)
    cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=UNLIMITED")
    wait_for_restart(cluster, job, run, 1)
    assert "going on from step" in cluster.log(job)
    cluster.tool("kill-controller")
    cluster.tool("up")
    cluster.call("scontrol", "reconfigure")
    assert cluster.wait_for(job) == "COMPLETED", cluster.report(job)
    assert cluster.restarts(job) == 1
    assert_same_end(run, undisturbed)


@pytest.mark.slow
def test_ranks_that_hang_do_not_keep_a_stopped_job_from_the_queue(cluster, workplace, undisturbed):
    job = submit(cluster, workplace, "hangs", options=("--export=ALL,NORFACE_GRACE_S=3",))
    run = workplace / "runs" / "hangs"
    wait_for_checkpoint(cluster, job, run)
    # One of two: the other waits for it in a collective, and ends by itself. Then both.
    for start, (hanging, said) in enumerate(
        [(1, "ended by force, unsaved; the last checkpoint counts"), (2, "they did not: killed")], 1
    ):
        ranks = find_ranks("name=hangs")
        assert len(ranks) == 2
        for pid in ranks[-hanging:]:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1)  # until it waits
        cluster.call("scancel", "--signal=USR1", "--batch", job)
        wait_for_restart(cluster, job, run, start)
        log = cluster.log(job).partition(f", start {start}:")[2]
        assert said in log.partition(f", start {start + 1}:")[0]
    assert cluster.wait_for(job) == "COMPLETED", cluster.report(job)
    assert cluster.restarts(job) == 2
    assert_same_end(run, undisturbed)


def find_ranks(word: str) -> list[int]:
    """Processes of `python -m norface` with this word, on any node of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"norface" in words and word.encode() in words:
                found.append(int(path.parent.name))
    return sorted(found)


@pytest.mark.slow
def test_a_queued_job_runs_the_code_and_the_config_of_its_submission(cluster, workplace):
    project, config = workplace / "project", workplace / "edited.yaml"
    for part in ("norface", "launchers", "slurm", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / part, project / part, ignore=ignored)
    config.write_text((workplace / "nor.yaml").read_text())
    short = f"trainer.images={4 * GLOBAL_BATCH}"
    held = cluster.call(
        str(project / "slurm" / "pretrain_nor.sh"), "--hold", str(config), "name=held", short,
        cwd=workplace,
    )  # fmt: skip
    blocker = cluster.submit("--nodes=2", "--exclusive", "--wrap=sleep 900", cwd=workplace)
    cluster.wait_for(blocker, "RUNNING")
    waiting = cluster.call(
        sys.executable, "-m", "launchers.submit", "--", "train", "nor", "-c", str(config),
        "name=waiting", short, cwd=workplace, PYTHONPATH=str(project), PYTHONSAFEPATH="1",
    )  # fmt: skip
    (project / "norface" / "__init__.py").write_text("raise SystemExit('edited code')\n")
    (project / "slurm" / "common.sh").write_text("exit 3\n")
    config.write_text("edited: config\n")
    cluster.call("scontrol", "release", held)
    cluster.call("scancel", blocker)
    for job, name in ((held, "held"), (waiting, "waiting")):
        assert cluster.wait_for(job) == "COMPLETED", cluster.report(job)
        assert (workplace / "runs" / name / "generator.safetensors").is_file()
        assert len(list((workplace / "runs" / name / "submitted").iterdir())) == 1
