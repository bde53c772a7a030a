"""Sweeps without Ray: jobs that share a study in a file."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sweeps import (
    PROJECT,
    VALUES,
    mlflow_runs,
    run_search,
    steps_trained,
    wait_until,
    write_workplace,
)

from norface.errors import CheckpointError
from norface.tracking import read_facts
from tune.array import ArrayJob, open_storage, prepare
from tune.folder import (
    Trial,
    holding,
    list_trials,
    read_trial,
    reports_of,
    trial_folder,
    write_trial,
)
from tune.study import Study
from tune.sweep import Sweep, load_sweep

optuna = pytest.importorskip("optuna", reason="pip install norface[tune]")
pytest.importorskip("submitit", reason="pip install norface[cluster]")
pytestmark = pytest.mark.slow


def test_jobs_share_a_study_and_a_trial_that_ended_is_not_run_again(tmp_path):
    workplace = write_workplace(tmp_path / "work")
    words = [
        "search={kind: tpe, startup: 1}", "scheduler={kind: asha, factor: 2}", "--here",
        "budget.trials=2", "resources.at_once=1",
    ]  # fmt: skip
    text = run_search(workplace, *words, module="tune.array")
    assert "2 of 2 trials have ended" in text and "norface crossval -c" in text
    sweep = workplace / "runs" / "s"
    trials = list_trials(sweep)
    assert all(trial.state in ("finished", "stopped") for trial in trials)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(sweep / "optuna.journal"))
    )
    study = optuna.load_study(study_name="s", storage=storage)
    found = {one.user_attrs["norface.trial"]: one for one in study.trials if one.user_attrs}
    assert {n: one.value for n, one in found.items()} == {t.number: t.value for t in trials}
    # One is lost, as if its job had been killed when it had trained: it is taken up again. The
    # first, which asha never stops.
    folder = trial_folder(sweep, 0)
    lost = read_trial(folder)
    lost.state = "running"
    write_trial(folder, lost)
    before = steps_trained(trial_folder(sweep, 1))
    assert "trial 0000" in run_search(workplace, *words, module="tune.array")
    after = list_trials(sweep)
    assert [t.value for t in after] == [t.value for t in trials]
    assert all(t.ended for t in after)
    assert steps_trained(trial_folder(sweep, 1)) == before > 0


def test_a_trial_that_another_job_runs_is_left_alone(tmp_path, monkeypatch):
    workplace = write_workplace(tmp_path / "work")
    monkeypatch.chdir(workplace)
    sweep = Sweep(load_sweep("sweep.yaml", []))
    prepare(sweep)
    folder = trial_folder(sweep.folder, 0)
    with holding(folder / ".watched", ""):
        with pytest.raises(CheckpointError, match="trials/0000: another job runs this trial"):
            ArrayJob(sweep.config, 0, str(workplace))()
        assert read_trial(folder) is None
    assert ArrayJob(sweep.config, 0, str(workplace))() == "finished"


def test_a_trial_asks_slurm_for_what_it_needs_on_the_cluster_that_the_file_describes(
    tmp_path, monkeypatch
):
    from launchers.cluster import ClusterConfig
    from tune.array import build_trial_executor

    monkeypatch.chdir(write_workplace(tmp_path / "work"))
    words = ["resources={processes: 4, cpus: 2.5, gpus: 0.5}", "name=mine"]
    config = load_sweep("sweep.yaml", words)
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    cluster = ClusterConfig(nodes=9, partition="long", modules=["cuda"], time="1:30:00")
    executor = build_trial_executor(config, cluster, tmp_path / "code")
    text = executor._make_submission_file_text(executor._submitit_command_str, "uid")
    for line in ("job-name=mine", "nodes=1", "ntasks-per-node=1", "cpus-per-task=10", "time=90",
                 "gpus-per-node=2", "partition=long", "signal=USR2@180"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in text
    assert f"export PYTHONPATH={tmp_path}/code$" in text and "module load cuda" in text


def test_a_sweep_runs_until_its_summary_and_what_was_cancelled_is_killed(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from tune.array import SummaryJob, collect

    workplace = write_workplace(tmp_path / "work")
    monkeypatch.chdir(workplace)
    sweep = Sweep(load_sweep("sweep.yaml", ["tracking.mlflow=true", "budget.trials=2"]))
    assert prepare(sweep) == [0, 1]
    sweep = Sweep(sweep.config)
    sweep.join(Study(sweep.config, open_storage(sweep.folder)))
    sweep.begin(0)
    status = lambda: (read_facts(sweep.folder)["status"], mlflow_runs(workplace, sweep.folder))
    # Jobs may run: summing up by hand says nothing else.
    collect(Sweep(sweep.config))
    assert status() == ("running", [("0000", "RUNNING")])
    # All jobs have gone, the trial's was cancelled.
    SummaryJob(sweep.config, str(workplace))()
    assert status() == ("stopped", [("0000", "KILLED")])
    collect(Sweep(sweep.config))
    assert status() == ("stopped", [("0000", "KILLED")])
    # Queued again.
    assert prepare(Sweep(sweep.config)) == [0, 1]
    assert status() == ("running", [("0000", "KILLED")])
    for number in range(2):
        write_trial(trial_folder(sweep.folder, number), Trial(number, VALUES, state="failed"))
    sweep.begin(1)
    SummaryJob(sweep.config, str(workplace))()
    assert status()[0] == "finished"


def test_a_job_that_is_signalled_while_it_listens_saves_and_is_queued_again(tmp_path, monkeypatch):
    import submitit
    from submitit.core.job_environment import JobEnvironment

    monkeypatch.chdir(write_workplace(tmp_path / "work"))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    sweep = Sweep(load_sweep("sweep.yaml", ["budget={trials: 1, epochs: 30}"]))
    assert prepare(sweep) == [0]
    executor = submitit.LocalExecutor(folder=tmp_path / "jobs")
    executor.update_parameters(timeout_min=600)
    job = executor.submit(ArrayJob(sweep.config, 0, os.getcwd()))
    folder = trial_folder(sweep.folder, 0)
    wait_until(lambda: len(reports_of(folder)) >= 2 or job.done(), "two reports")
    process = Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split()[0]
    # What Slurm sends before the time is over, to the process to which it sends it.
    os.kill(int(process), JobEnvironment._usr_sig())
    states = set()
    while not job.done():
        states.add(read_facts(folder)["status"])
        time.sleep(0.01)
    assert job.result() == "finished", job.stderr()
    assert "Caught signal" in job.stderr()
    assert "stopped" in states and read_facts(folder)["status"] == "finished"
    assert [line["step"] for line in reports_of(folder)] == list(range(1, 31))
    assert "going on from step" in (folder / "log.txt").read_text()
