"""`slurm/tune.sh` on two real nodes: one Ray over both, trials on each, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tune"))
from sweeps import write_configs, write_workplace

pytestmark = [pytest.mark.slurm, pytest.mark.ray, pytest.mark.slow]
pytest.importorskip("ray", reason="pip install norface[tune]")

SCRIPT = str(Path(__file__).parents[2] / "slurm" / "tune.sh")


def test_trials_run_on_both_nodes_and_a_sweep_that_loses_a_node_goes_on(cluster, tmp_path):
    from tune.folder import list_trials

    workplace = write_workplace(tmp_path / "work")
    words = [SCRIPT, "--nodes=2", "--cpus-per-task=1", "sweep.yaml", "budget.trials=4"]
    job = cluster.call(*words, cwd=workplace)
    # The job has a copy of its own.
    (workplace / "base.yaml").write_text("edited: base")
    (workplace / "sweep.yaml").write_text("edited: sweep")
    sweep = workplace / "runs" / "s"
    ended = lambda: sum(trial.ended for trial in list_trials(sweep))
    cluster.wait_until(lambda: ended() >= 1, "a trial to end", timeout_s=400, job=job)
    cluster.tool("kill-node", "node2")
    cluster.wait_for(job, "PENDING")
    before = {t.number: t.seconds for t in list_trials(sweep) if t.ended}
    assert len(before) < 4
    cluster.tool("restart-node", "node2")
    assert cluster.wait_for(job, timeout_s=500) == "COMPLETED", cluster.report(job)
    assert cluster.restarts(job) == 1
    trials = list_trials(sweep)
    assert [trial.state for trial in trials] == ["finished"] * 4
    assert {n: trials[n].seconds for n in before} == before
    assert {trial.node for trial in trials} == {"node1", "node2"}
    assert "best: trial" in cluster.log(job)
    assert "norface crossval -c runs/s/best.yaml" in cluster.log(job)
    assert "Ray opens ports on every network interface" in cluster.log(job)
    write_configs(workplace)
    text = cluster.call(*words[:3], "--dry-run", "sweep.yaml", "name=other", cwd=workplace)
    assert text.startswith("# sbatch --parsable --nodes=2 --cpus-per-task=1 ")
    assert not (workplace / "runs" / "other").exists()


def test_jobs_of_an_array_are_requeued_where_they_were_and_summed_up(cluster, tmp_path):
    pytest.importorskip("submitit")
    from norface.tracking import read_facts
    from tune.folder import list_trials, reports_of, trial_folder

    workplace = write_workplace(tmp_path / "work")
    words = ["sweep.yaml", "budget={trials: 2, epochs: 30}"]
    command = [sys.executable, "-m", "tune.array", *words]
    first, second, summary = cluster.call(*command, cwd=workplace, **project()).split()
    (workplace / "base.yaml").write_text("edited: base")
    sweep = workplace / "runs" / "s"
    assert read_facts(sweep)["status"] == "running"
    folder = trial_folder(sweep, 0)
    cluster.wait_until(lambda: len(reports_of(folder)) >= 2, "reports", job=first)
    cluster.call("scancel", "--signal=USR2", first)
    assert cluster.wait_for(summary, timeout_s=500) == "COMPLETED", cluster.report(first)
    assert (cluster.restarts(first), cluster.restarts(second)) == (1, 0)
    trials = list_trials(sweep)
    assert [(trial.state, trial.reports) for trial in trials] == [("finished", 30)] * 2
    assert "going on from step" in (folder / "log.txt").read_text()
    assert read_facts(sweep)["status"] == "finished" and (sweep / "best.yaml").is_file()


def test_a_trial_over_two_nodes_that_loses_a_rank_goes_on_and_leaves_nobody(cluster, tmp_path):
    from tune.folder import list_trials, reports_of, trial_folder

    workplace = write_workplace(tmp_path / "work")
    words = ["--nodes=2", "--cpus-per-task=1", "sweep.yaml", "budget={trials: 1, epochs: 30}"]
    words += ["resources.nodes=2", "changes.cla.trainer.batch_per_rank=4"]
    job = cluster.call(SCRIPT, *words, cwd=workplace)
    folder = trial_folder(workplace / "runs" / "s", 0)
    cluster.wait_until(lambda: len(reports_of(folder)) >= 2, "reports", job=job)
    (first,), (second,) = ranks_of(folder, "0"), ranks_of(folder, "1")
    os.kill(second, signal.SIGKILL)
    cluster.wait_until(lambda: ranks_of(folder, "0") not in ([], [first]), "a start", job=job)
    cluster.wait_until(lambda: ranks_of(folder, "1"), "the other rank", job=job)
    # Its node's actor is killed by Ray, which says nothing to what the actor has started.
    os.kill(ranks_of(folder, "0")[0], signal.SIGKILL)
    assert cluster.wait_for(job, timeout_s=500) == "COMPLETED", cluster.report(job)
    (trial,) = list_trials(workplace / "runs" / "s")
    assert (trial.state, trial.reports) == ("finished", 30)
    assert [line["step"] for line in reports_of(folder)] == list(range(1, 31))
    cluster.wait_until(lambda: not ranks_of(folder, "0") + ranks_of(folder, "1"), "all to end")


def ranks_of(folder: Path, rank: str) -> list[int]:
    """Processes of a trial with this RANK, on any node of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            environment = (path / "environ").read_bytes().split(b"\0")
            is_trial = b"tune.trial" in words and str(folder.absolute()).encode() in words
            if is_trial and f"RANK={rank}".encode() in environment:
                found.append(int(path.name))
    return found


def project() -> dict[str, str]:
    """The environment in which a command finds this project."""
    return {"PYTHONPATH": str(Path(__file__).parents[2])}
