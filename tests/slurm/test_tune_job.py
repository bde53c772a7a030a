"""`slurm/tune.sh` on two real nodes: one Ray over both, trials on each, nothing left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tune"))
from sweeps import write_workplace

pytestmark = [pytest.mark.slurm, pytest.mark.ray, pytest.mark.slow]
pytest.importorskip("ray", reason="pip install norface[tune]")

SCRIPT = str(Path(__file__).parents[2] / "slurm" / "tune.sh")


def test_trials_run_on_both_nodes_and_a_cancelled_sweep_goes_on(cluster, tmp_path):
    from tune.folder import list_trials

    workplace = write_workplace(tmp_path / "work")
    words = ["--nodes=2", "--cpus-per-task=1", SCRIPT, "sweep.yaml", "budget.trials=4"]
    job = cluster.submit(*words, cwd=workplace)
    sweep = workplace / "runs" / "s"
    ended = lambda: sum(trial.ended for trial in list_trials(sweep))
    cluster.wait_until(lambda: ended() >= 1, "a trial to end", timeout_s=400, job=job)
    cluster.call("scancel", job)
    cluster.wait_for(job, "CANCELLED", timeout_s=200)
    before = {t.number: t.seconds for t in list_trials(sweep) if t.ended}
    assert len(before) < 4
    job = cluster.submit(*words, cwd=workplace)
    assert cluster.wait_for(job, timeout_s=500) == "COMPLETED", cluster.report(job)
    trials = list_trials(sweep)
    assert [trial.state for trial in trials] == ["finished"] * 4
    assert {n: trials[n].seconds for n in before} == before
    assert {trial.node for trial in trials} == {"node1", "node2"}
    assert "best: trial" in cluster.log(job)
    assert "norface crossval -c runs/s/best.yaml" in cluster.log(job)
