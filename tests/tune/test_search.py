"""Sweeps on a real Ray: killed and gone on with, with every search and scheduler."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import yaml
from sweeps import (
    EXPERTS,
    RATE,
    mlflow_runs,
    run_search,
    start_search,
    steps_trained,
    wait_until,
    write_workplace,
)

from norface.tracking import read_facts
from tune.channel import Reporter
from tune.folder import best_trial, list_trials, reports_of, trial_folder
from tune.process import sum_up
from tune.search import main
from tune.sweep import Sweep, load_sweep
from tune.trial import run_trial

pytestmark = [pytest.mark.ray, pytest.mark.slow]
pytest.importorskip("ray", reason="pip install norface[tune]")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    return write_workplace(tmp_path_factory.mktemp("work"))


def kill_when(workplace: Path, condition, *words: str) -> None:
    """Start a search, and kill its driver as soon as the condition holds."""
    process = start_search(workplace, *words)
    try:
        wait_until(lambda: condition() or process.poll() is not None, "the moment to kill")
        assert process.poll() is None, process.communicate()[0]
    finally:
        process.kill()
        process.communicate()


def train_all_here(*words: str) -> list[tuple[dict, float, str]]:
    """The sweep's trials one after another in this process, without Ray: values, value, state."""
    found = []
    sweep = Sweep(load_sweep("sweep.yaml", list(words)))
    spec = sweep.spec()
    with sweep.open():
        for number in sweep.numbers():
            trial, heard = sweep.begin(number), []
            reporter = Reporter(lambda message, heard=heard: bool(heard.append(message)))
            run_trial(sweep.config, sweep.base, trial_folder(sweep.folder, number), trial, reporter)
            reporter.flush()
            lines = [
                {f"validation/{name}": value for name, value in one["metrics"].items()}
                | {"fold": one["fold"]}
                for one in heard
            ]
            found.append((trial.values, sum_up(lines, spec["metric"], spec["chooser"]), "finished"))
    return found


def test_a_killed_random_sweep_ends_like_one_without_ray(workplace, monkeypatch, capsys):
    words = ["tracking.mlflow=true", "name=killed"]
    sweep = workplace / "runs" / "killed"
    # While the first two trials run.
    kill_when(workplace, lambda: any(reports_of(p) for p in sweep.glob("trials/*")), *words)
    before = {t.number: t for t in list_trials(sweep) if t.ended}
    text = run_search(workplace, *words)
    after = list_trials(sweep)
    monkeypatch.chdir(workplace)
    assert [(t.values, t.value, t.state) for t in after] == train_all_here("name=here")
    assert [steps_trained(trial_folder(sweep, n)) for n in range(3)] == [3, 3, 3]
    assert all(after[number].seconds == trial.seconds for number, trial in before.items())
    assert mlflow_runs(workplace, sweep) == [(f"000{n}", "FINISHED") for n in range(3)]
    assert read_facts(sweep)["status"] == "finished"
    best = best_trial(after, "max")
    assert f"best: trial {best.name}" in text
    found = yaml.safe_load((sweep / "best.yaml").read_text())["cla"]
    assert found["optimizer"]["learning_rate"] == best.values[RATE]
    assert found["model"]["moe"] == {"top_k": 1, "experts": best.values[EXPERTS]}
    # Nothing is left to do: no Ray is started for it.
    capsys.readouterr()
    assert main(["sweep.yaml", *words]) == 0
    said = capsys.readouterr()
    assert f"best: trial {best.name}" in said.out and "Ray opens ports" not in said.err


def test_tpe_with_asha_one_at_a_time_goes_on_as_if_it_had_not_been_killed(workplace):
    # By this seed the second trial is not stopped and the third is.
    words = [
        "search={kind: tpe, startup: 1}", "scheduler={kind: asha, factor: 2}", "seed=4",
        "budget.trials=3", "budget.epochs=4", "resources.at_once=1", "tracking.mlflow=true",
    ]  # fmt: skip
    run_search(workplace, "name=asha", *words, "tracking.mlflow=false")
    sweep = workplace / "runs" / "asha-killed"
    second = trial_folder(sweep, 1)
    kill_when(
        workplace, lambda: second.exists() and bool(reports_of(second)), "name=asha-killed", *words
    )
    assert sum(trial.ended for trial in list_trials(sweep)) == 1
    run_search(workplace, "name=asha-killed", *words)
    undisturbed, after = list_trials(workplace / "runs" / "asha"), list_trials(sweep)
    as_rows = lambda trials: [(t.values, t.value, t.state, t.reports) for t in trials]
    assert as_rows(after) == as_rows(undisturbed)
    assert "stopped" in {trial.state for trial in after}
    status = {"finished": "FINISHED", "stopped": "KILLED"}
    assert mlflow_runs(workplace, sweep) == [(t.name, status[t.state]) for t in after]
    # What was stopped trained no step more than it reported.
    for trial in after:
        assert steps_trained(trial_folder(sweep, trial.number)) == trial.reports


def test_population_based_training_takes_over_weights_and_survives_a_kill(workplace):
    words = [
        "name=pbt", "scheduler={kind: pbt, every: 1, share: 0.5, synch: true}",
        "budget={trials: 2, epochs: 3}",
        "space.cla={optimizer: {learning_rate: {choice: [1.0e-7, 0.01]}}}", "search=random",
        f"space.{EXPERTS}.choice=[2]", "seed=3",
    ]  # fmt: skip
    sweep = workplace / "runs" / "pbt"
    took_over = lambda: any(trial.generation for trial in list_trials(sweep))
    # A takeover starts both trials' processes anew: one comes before the kill, one after it.
    kill_when(workplace, took_over, *words)
    run_search(workplace, *words)
    trials = list_trials(sweep)
    assert [(t.state, t.reports) for t in trials] == [("finished", 3), ("finished", 3)]
    taken = next(trial for trial in trials if trial.generation)
    folder = trial_folder(sweep, taken.number)
    log = (folder / "log.txt").read_text()
    assert f"run{taken.generation}" in log and "going on from step" in log
    assert taken.history[0]["values"][EXPERTS] == 2


def test_a_driver_that_is_asked_to_stop_ends_with_75_and_its_trials_are_killed(workplace):
    words = ["name=asked", "tracking.mlflow=true", "budget.epochs=40"]
    sweep = workplace / "runs" / "asked"
    process = start_search(workplace, *words)
    wait_until(lambda: any(reports_of(p) for p in sweep.glob("trials/*")), "a report")
    process.send_signal(signal.SIGTERM)
    text = process.communicate(timeout=300)[0]
    assert process.returncode == 75, text
    assert "the same command goes on" in text and "Traceback" not in text
    assert {status for _, status in mlflow_runs(workplace, sweep)} == {"KILLED"}
    assert read_facts(sweep)["status"] == "stopped"


def test_a_trial_that_fits_on_no_machine_is_refused_in_one_line(workplace):
    process = start_search(workplace, "name=large", "resources.cpus=4000")
    text = process.communicate(timeout=600)[0]
    assert process.returncode == 2 and "Traceback" not in text
    assert "a trial asks for 1 node(s) with 4000 CPUs" in text
