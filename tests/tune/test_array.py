"""Sweeps without Ray: jobs that share a study in a file."""

from __future__ import annotations

import pytest
from sweeps import run_search, steps_trained, write_workplace

from tune.folder import list_trials, read_trial, trial_folder, write_trial

optuna = pytest.importorskip("optuna", reason="pip install norface[tune]")
pytest.importorskip("submitit", reason="pip install norface[cluster]")
pytestmark = pytest.mark.slow


def test_jobs_share_a_study_and_a_trial_that_ended_is_not_run_again(tmp_path):
    workplace = write_workplace(tmp_path / "work")
    words = [
        "search={kind: tpe, startup: 2}", "scheduler={kind: asha, factor: 2}", "--here",
        "budget.trials=3", "resources.at_once=1",
    ]  # fmt: skip
    text = run_search(workplace, *words, module="tune.array")
    assert "3 of 3 trials have ended" in text and "norface crossval -c" in text
    sweep = workplace / "runs" / "s"
    trials = list_trials(sweep)
    assert all(trial.state in ("finished", "stopped") for trial in trials)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(sweep / "optuna.journal"))
    )
    study = optuna.load_study(study_name="s", storage=storage)
    found = {one.user_attrs["norface.trial"]: one for one in study.trials if one.user_attrs}
    assert {n: one.value for n, one in found.items()} == {t.number: t.value for t in trials}
    # One is lost, as if its job had been killed when it had trained: it is taken up again.
    folder = trial_folder(sweep, 1)
    lost = read_trial(folder)
    (folder / "stopped").unlink(missing_ok=True)
    lost.state = "running"
    write_trial(folder, lost)
    before = [steps_trained(trial_folder(sweep, number)) for number in range(3)]
    assert "trial 0001" in run_search(workplace, *words, module="tune.array")
    after = list_trials(sweep)
    assert [t.value for t in after] == [t.value for t in trials]
    assert all(t.ended for t in after)
    assert [steps_trained(trial_folder(sweep, n)) for n in (0, 2)] == [before[0], before[2]]
