"""The page of a sweep, from trials made by hand."""

from __future__ import annotations

import re

import pytest
from sweeps import EXPERTS, RATE, SWEEP

from norface.config import Config, load_config
from norface.tracking import TrackingConfig, open_run
from tune.config import SweepConfig
from tune.folder import Trial, best_trial, trial_folder, write_trial
from tune.report import main, measure_importance, write_report

pytest.importorskip("optuna", reason="pip install norface[tune]")


@pytest.fixture
def sweep(tmp_path):
    """Twelve trials whose value is that of the learning rate alone; two stopped, one failed."""
    text = SWEEP | {"root": str(tmp_path), "budget": {"trials": 12}, "scheduler": "asha"}
    config = SweepConfig.model_validate(text)
    tracking, tags = TrackingConfig(mlflow=False), {"metric": "f1"}
    open_run(config.folder, kind="sweep", tracking=tracking, config=config, tags=tags).finish()
    trials = []
    for number in range(12):
        values = {RATE: 0.001 * 1.3**number, EXPERTS: 1 + number % 2}
        trial = Trial(number, values, "finished", 0.3 + 0.02 * number, reports=9, seconds=60)
        if number in (10, 11):
            trial.state, trial.reports, trial.value = "stopped", 3, 0.9
        if number == 4:
            trial.state, trial.value, trial.error = "failed", None, "a <bad> batch"
        folder = trial_folder(config.folder, number)
        run = open_run(folder, kind="trial", tracking=tracking)
        for step in range(trial.reports):
            run.log({"objective": trial.value or 0}, step=step + 1)
        write_trial(folder, trial)
        trials.append(trial)
    return config, trials


def test_only_whole_trials_can_win_and_what_matters_is_found(sweep):
    config, trials = sweep
    assert best_trial(trials, "max").number == 9
    assert best_trial(trials, "min").number == 0
    importance = measure_importance(trials, config)
    assert importance[RATE] > 0.8 and importance[RATE] + importance[EXPERTS] == pytest.approx(1)
    assert measure_importance(trials[:5], config) == {}


def test_the_page_shows_every_trial_and_says_what_was_saved(sweep, capsys):
    config, trials = sweep
    assert main([str(config.folder)]) == 0
    page = (config.folder / "report.html").read_text()
    rows = re.findall(r"<tr><td>(\d{4})</td>", page)
    assert rows == ["0009", "0008", "0007", "0006", "0005", "0003", "0002", "0001", "0000",
                    "0010", "0011", "0004"]  # fmt: skip
    assert "a &lt;bad&gt; batch" in page
    # 9 whole trials of 9 reports and 2 stopped after 3: 87 of 99. The failed one does not count.
    assert "Steps saved" in page and ">12 %<" in page
    assert page.count("data:image/svg+xml") == 5
    assert "http" not in re.sub(r"http://www.w3.org\S*", "", page)
    assert main([str(config.root)]) == 2
    assert "is no sweep" in capsys.readouterr().err


def test_a_sweep_without_a_single_value_still_has_a_page(tmp_path):
    config = load_config(SweepConfig, None, [f"{k}={v}" for k, v in short(tmp_path).items()])
    open_run(
        config.folder, kind="sweep", tracking=TrackingConfig(mlflow=False), config=config,
        tags={"metric": "f1"},
    ).finish()  # fmt: skip
    write_trial(trial_folder(config.folder, 0), Trial(0, {EXPERTS: 1}, "failed", error="no"))
    page = write_report(config.folder).read_text()
    assert "0 of" not in page and "1 of 2" in page


def short(root) -> dict[str, str]:
    assert issubclass(SweepConfig, Config)
    return {
        "root": str(root), "stage": "cla", "base": "base.yaml", f"space.{EXPERTS}.choice": "[1, 2]",
        "budget.trials": "2",
    }  # fmt: skip
