"""One trial: what it reports, what stops it, what it never sees, how it goes on. No Ray here."""

from __future__ import annotations

import math
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from sweeps import EXPERTS, RATE, VALUES, begin, run_here, write_workplace

from norface.config import load_config
from norface.tracking import read_facts, read_metrics
from tune.config import SweepConfig
from tune.folder import (
    Trial,
    best_trial,
    catch_up,
    read_trial,
    reports_of,
    trial_folder,
    write_trial,
)
from tune.process import sum_up
from tune.sweep import Sweep
from tune.trial import TrialStopped

pytest.importorskip("optuna", reason="pip install norface[tune]")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    return write_workplace(tmp_path_factory.mktemp("work"))


def test_the_objective_is_the_mean_over_folds_of_the_epoch_that_the_stage_chose():
    line = lambda fold, f1, auc: {"fold": fold, "validation/f1": f1, "validation/auc": auc}
    lines = [line(0, 0.2, 0.9), line(0, 0.6, 0.5), line(0, 0.4, 0.7), line(1, 0.3, 0.8)]
    assert sum_up(lines[:1], "f1", "f1") == 0.2
    assert sum_up(lines[:3], "f1", "f1") == 0.6
    assert sum_up(lines, "f1", "f1") == pytest.approx(0.45)
    # Another metric counts at the epoch that is exported.
    assert sum_up(lines, "auc", "f1") == pytest.approx((0.5 + 0.8) / 2)
    assert sum_up(lines[:3], "f1", None) == 0.4


def test_a_measure_that_is_no_number_is_no_value_and_wins_nothing(tmp_path, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    sweep, watch = begin(tmp_path)
    # As AUC of validation subjects who all show the unit.
    found = {"f1": float("nan"), "auc": 0.5}
    watch._note({"report": 1, "fold": 0, "images": 8, "metrics": found})
    assert math.isnan(reports_of(watch.folder)[0]["objective"] or float("nan"))
    trial = read_trial(watch.folder)
    assert trial.value is None and catch_up(watch.folder) == trial
    trial.state = "finished"
    good = Trial(1, VALUES, state="finished", value=0.1, reports=1)
    assert best_trial([trial, good], "max") == best_trial([trial, good], "min") == good
    sweep.study.tell(trial)


def test_a_trial_makes_no_dry_run_whose_step_would_report(tmp_path, workplace, monkeypatch, capfd):
    monkeypatch.chdir(workplace)
    run_here(tmp_path, "budget.epochs=1")
    assert "dry run" not in capfd.readouterr().out


def test_no_test_subject_has_a_say_in_the_objective(tmp_path, workplace, monkeypatch):
    from norface.data.shards import ShardIndex
    from norface.training.stages.cla_config import ClaDataConfig
    from norface.training.stages.cla_folds import choose_fold

    index = ShardIndex.open(workplace / "shards")
    fold = choose_fold(ClaDataConfig(shards=[workplace / "shards"]), index)
    tested = tuple(subject for _, subject in fold.test)
    monkeypatch.chdir(workplace)
    before = run_here(tmp_path / "a")
    turned = write_workplace(tmp_path / "turned", flip_of=tested)
    monkeypatch.chdir(turned)
    assert run_here(tmp_path / "b") == before
    # The same for a validation subject changes it: the test above can fail.
    turned = write_workplace(tmp_path / "other", flip_of=(fold.validation[0][1],))
    monkeypatch.chdir(turned)
    assert run_here(tmp_path / "c") != before


def test_several_folds_report_one_after_the_other_and_stop_where_they_are_told(
    tmp_path, workplace, monkeypatch
):
    monkeypatch.chdir(workplace)
    heard = run_here(tmp_path / "a", "folds=[test=part2, test=part1]", "budget.epochs=2")
    assert [(one["report"], one["fold"]) for one in heard] == [(1, 0), (2, 0), (3, 1), (4, 1)]
    # The same again trains nothing, and says all of it once more.
    assert run_here(tmp_path / "a", "folds=[test=part2, test=part1]", "budget.epochs=2") == heard
    with pytest.raises(TrialStopped):
        run_here(tmp_path / "b", "folds=[test=part2, test=part1]", "budget.epochs=2", stop_at=2)
    runs = sorted((tmp_path / "b" / "s" / "trials" / "0000").rglob("run.json"))
    status = {run.parent.name: read_facts(run.parent)["status"] for run in runs}
    assert status == {"test=part1": "stopped", "test=part2": "finished"}


@pytest.mark.slow
def test_a_metric_that_is_not_measured_and_a_bad_trial_fail_in_one_line(
    tmp_path, workplace, monkeypatch
):
    monkeypatch.chdir(workplace)
    _, watch = begin(tmp_path, "objective.metric=icc", "budget.epochs=1")
    event = watch.next()
    assert event.kind == "failed"
    assert event.metrics["error"].startswith("objective.metric: found 'icc'; there are: f1,")
    trial = read_trial(watch.folder)
    assert (trial.state, trial.value, watch.starts) == ("failed", None, 1)


@pytest.mark.slow
def test_two_ranks_are_one_trial_and_a_stop_ends_both(tmp_path, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    _, watch = begin(tmp_path, "resources.processes=2", "changes.cla.trainer.batch_per_rank=4")
    whole = [one["metrics"]["f1"] for one in run_here(tmp_path / "one")]
    # 2 ranks x 4 pictures are 1 rank x 8.
    assert watch.next().metrics["objective"] == pytest.approx(whole[0], abs=0.02)
    watch.answer(stop=False)
    assert watch.next().metrics["step"] == 2
    closing = threading.Thread(target=watch.close)
    closing.start()
    closing.join(60)
    assert not closing.is_alive() and watch.process is None
    run = next(watch.folder.glob("run0/*/*/*"))
    assert read_facts(run)["status"] == "stopped"
    assert max(line["step"] for line in read_metrics(run)) <= 15


def test_another_sweep_is_not_mixed_into_a_folder(tmp_path, workplace, monkeypatch, capsys):
    from tune.search import main

    monkeypatch.chdir(workplace)
    begin(tmp_path)
    words = ["sweep.yaml", f"root={tmp_path}"]
    assert main([*words, "seed=7"]) == 2
    assert "belongs to another sweep: seed was 0, is 7 now" in capsys.readouterr().err
    assert main([*words, "changes.cla.optimizer.weight_decay=0.5"]) == 2
    assert "belongs to another" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trial_that_breaks_by_itself_is_not_started_again(tmp_path, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    _, watch = begin(tmp_path)
    (watch.folder.parents[1] / "config.yaml").write_text("{}")
    (watch.folder.parents[1] / "base.yaml").unlink()
    event = watch.next()
    assert event.kind == "failed" and watch.starts == 1
    # A bare Python error, in a line, with the place of the rest.
    monkeypatch.setattr(watch, "_own_command", lambda: [sys.executable, "-c", "1 / 0"])
    event = watch.next()
    assert "exit code 1: ZeroDivisionError: division by zero (see" in event.metrics["error"]


@pytest.mark.slow
def test_a_trial_takes_over_anothers_weights_and_goes_on_from_them(
    tmp_path, workplace, monkeypatch
):
    pytest.importorskip("ray", reason="pip install norface[tune]")
    from tune.ray_trial import NorfaceTrial

    monkeypatch.chdir(workplace)
    words = [f"root={tmp_path}", "scheduler=pbt", "budget={trials: 2, epochs: 3}"]
    sweep = Sweep(load_config(SweepConfig, "sweep.yaml", words))
    values = [{RATE: 0.01, EXPERTS: 2}, {RATE: 1e-6, EXPERTS: 2}, {RATE: 0.012, EXPERTS: 2}]
    with sweep.open():
        for number in range(2):
            sweep.begin(number)
            folder = trial_folder(sweep.folder, number)
            write_trial(folder, Trial(number, values[number]))
    # The actor's own methods, as Ray calls them, without a Ray around them.
    good, bad = object.__new__(NorfaceTrial), object.__new__(NorfaceTrial)
    for number, actor in enumerate((good, bad)):
        actor._trial_info = SimpleNamespace(trial_name=str(number))
        actor.setup({"number": number, "values": values[number]}, sweep.spec())
    try:
        before = [good.step() for _ in range(2)]
        bad.step()
        place = tmp_path / "checkpoint"
        place.mkdir()
        good.save_checkpoint(str(place))
        # Ray hands over the other's config, its number with it.
        bad.reset_config({"number": 0, "values": values[2]})
        bad.load_checkpoint(str(place))
        last = bad.step()
    finally:
        good.cleanup()
        bad.cleanup()
    taken = read_trial(trial_folder(sweep.folder, 1))
    assert (taken.state, taken.reports, taken.generation) == ("finished", 3, 1)
    assert taken.values == values[2] and taken.history == [{"reports": 1, "values": values[1]}]
    found = [line["objective"] for line in reports_of(trial_folder(sweep.folder, 1))]
    assert found == [*(one["objective"] for one in before), last["objective"]] and last["done"]
    log = (trial_folder(sweep.folder, 1) / "log.txt").read_text()
    assert "run1" in log and "going on from step 10 of 15" in log
