"""What a sweep may change, what is refused before anything starts, and what is drawn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from norface.config import load_config
from norface.errors import ConfigError
from norface.evaluation.crossval_config import CrossvalConfig
from norface.training.stages.nor_config import NorConfig
from tune.base import Base
from tune.config import SweepConfig
from tune.folder import Trial
from tune.space import Parameter, grid_cells, read_space
from tune.study import Study
from tune.winner import write_best

pytest.importorskip("optuna", reason="pip install norface[tune]")

SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "tune").glob("*.yaml"))
RATE, EXPERTS, TOP_K = (
    "cla.optimizer.learning_rate", "cla.model.moe.experts", "cla.model.moe.top_k",
)  # fmt: skip
SPACE = {
    RATE: {"loguniform": [1e-4, 1e-2]},
    EXPERTS: {"choice": [1, 2, 4]},
    TOP_K: {"int": [1, 4]},
}


@pytest.fixture
def make_sweep(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "name: tiny\ncla: {epochs: 5, data: {shards: [nowhere]}, model: {moe: {top_k: 1}}}\n"
    )

    def make(*overrides: str, **values) -> SweepConfig:
        given = {
            "stage": "cla", "base": str(tmp_path / "base.yaml"), "space": SPACE,
            "budget": {"trials": 20}, "root": str(tmp_path / "runs"), **values,
        }  # fmt: skip
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(given))
        return load_config(SweepConfig, path, overrides)

    return make


def refuse(make_sweep, *overrides: str, **values) -> str:
    with pytest.raises(ConfigError) as error:
        Base(make_sweep(*overrides, **values)).check_space()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_wrong_key_or_value_is_refused_in_one_line_that_names_the_right_ones(make_sweep):
    message = refuse(make_sweep, "space.cla.model.moe.expert.choice=[1]")
    assert "unknown key 'space.cla.model.moe.expert'" in message
    assert "did you mean 'experts'" in message
    message = refuse(make_sweep, space={RATE: {"uniform": [-1, 1]}})
    assert message.count("cla.optimizer.learning_rate") == 1 and "greater than 0" in message
    assert "'space.cla.task': found 'smell'" in refuse(
        make_sweep, space={"cla.task": ["au", "smell"]}
    )
    assert "budgets" in refuse(make_sweep, "budgets.trials=3")
    assert "loguniform needs a low end above 0" in refuse(
        make_sweep, space={RATE: {"loguniform": [0, 1]}}
    )
    assert "'budget.trials' must be set" in refuse(make_sweep, budget={})
    assert "write choice instead of grid" in refuse(
        make_sweep, "search=tpe", space={EXPERTS: {"grid": [1, 2]}}
    )
    assert "unknown key 'cla.epoch'" in refuse(make_sweep, "changes.cla.epoch=3")
    assert "no such config file" in refuse(make_sweep, base="nowhere.yaml")
    assert "no validation subjects" in refuse(make_sweep, "changes.cla.data.protocol=paper")


def test_values_that_only_do_not_fit_together_are_no_mistake_and_never_drawn(make_sweep):
    sweep = make_sweep()
    base = Base(sweep)
    base.check_space()
    study = Study(sweep)
    drawn = [study.propose(number, base.fits) for number in range(20)]
    assert all(values[TOP_K] <= values[EXPERTS] for values in drawn)
    assert {values[EXPERTS] for values in drawn} == {1, 2, 4}
    rates = [values[RATE] for values in drawn]
    assert min(rates) >= 1e-4 and max(rates) <= 1e-2
    # On a log scale about half of them lie below the geometric mean.
    assert 5 <= sum(rate < 1e-3 for rate in rates) <= 15
    with pytest.raises(ConfigError, match="no valid values found for trial 0"):
        study.propose(0, lambda values: False)


def test_what_a_number_draws_depends_on_nothing_but_seed_and_number(make_sweep):
    sweep = make_sweep()
    base = Base(sweep)
    in_order = [Study(sweep).propose(number, base.fits) for number in range(4)]
    study = Study(sweep)
    assert [study.propose(number, base.fits) for number in (3, 1)] == [in_order[3], in_order[1]]
    other = make_sweep("seed=1")
    assert Study(other).propose(0, base.fits) != in_order[0]


def test_a_draw_whose_trial_was_never_written_is_the_trials_when_its_job_starts_again(make_sweep):
    sweep = make_sweep("search={kind: tpe, startup: 1}")
    base, study = Base(sweep), Study(sweep)
    first = study.propose(0, base.fits)
    # Killed here; meanwhile others have ended, from which tpe has learnt.
    other = Trial(1, study.propose(1, base.fits), state="finished", value=0.5)
    study.tell(other)
    assert study.propose(0, base.fits) == first
    assert len([one for one in study.study.trials if one.user_attrs.get("norface.trial") == 0]) == 1


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_trial_whose_measure_is_no_number_counts_as_failed_for_the_study(make_sweep, state):
    sweep = make_sweep()
    study = Study(sweep)
    trial = Trial(0, study.propose(0, Base(sweep).fits), state=state)
    study.tell(trial)
    again = Study(sweep)
    again.remember(trial)
    assert [one.study.trials[0].state.name for one in (study, again)] == ["FAIL", "FAIL"]


@pytest.mark.parametrize("ended", ["finished", "stopped"])
def test_tpe_draws_the_same_after_a_restart_and_goes_where_it_is_good(make_sweep, ended):
    sweep = make_sweep("search={kind: tpe, startup: 5}")
    base = Base(sweep)

    def value_of(values: dict) -> float:
        return -abs(math.log10(values[RATE]) + 3.5)

    study, trials = Study(sweep), []
    for number in range(20):
        trial = Trial(number, study.propose(number, base.fits))
        trial.value, trial.state = value_of(trial.values), ended
        study.tell(trial)
        trials.append(trial)
    again = Study(sweep)
    for trial in trials[:12]:
        again.remember(trial)
    assert again.propose(12, base.fits) == trials[12].values
    late = [trial.value for trial in trials[10:]]
    early = [trial.value for trial in trials[:5]]
    assert sum(late) / len(late) > sum(early) / len(early)


def test_grid_cells_turn_the_last_key_fastest_and_nest_as_they_are_written():
    space = read_space({"a": {"b": {"grid": [1, 2]}, "c.d": ["x"]}, "e": {"grid": [True, False]}})
    assert list(space) == ["a.b", "a.c.d", "e"]
    parsed = {key: Parameter.model_validate(value) for key, value in space.items()}
    assert [tuple(cell.values()) for cell in grid_cells(parsed)] == [
        (1, True), (1, False), (2, True), (2, False),
    ]  # fmt: skip


def test_a_list_or_mapping_can_be_a_value(make_sweep):
    values = [{"experts": 2, "top_k": 1}, {"experts": 0}]
    sweep = make_sweep(space={"cla.model.moe": {"choice": values}})
    base = Base(sweep)
    base.check_space()
    drawn = [Study(sweep).propose(number, base.fits)["cla.model.moe"] for number in range(8)]
    assert all(one in values for one in drawn) and values[0] in drawn and values[1] in drawn


def test_the_winner_is_the_base_with_its_values_and_without_the_sweeps_budget(make_sweep):
    sweep = make_sweep("budget.epochs=2", "changes.cla.units=[1, 12]", name="mine")
    base = Base(sweep)
    sweep.folder.mkdir(parents=True)
    values = {RATE: 0.002, EXPERTS: 2, TOP_K: 1}
    path, command = write_best(base, Trial(3, values, "finished", 0.5))
    assert yaml.safe_load(path.read_text()) == {
        "name": "mine-best",
        "cla": {
            "epochs": 5,
            "units": [1, 12],
            "data": {"shards": ["nowhere"]},
            "model": {"moe": {"top_k": 1, "experts": 2}},
            "optimizer": {"learning_rate": 0.002},
        },
    }
    assert command == f"norface crossval -c {path}"
    config = load_config(CrossvalConfig, path)
    assert config.cla.model.moe.experts == 2
    # A trial of the sweep itself keeps to the budget.
    assert base.trial_config(values, Path("x")).cla.epochs == 2
    assert base.reports(folds=3) == 6


def test_a_trial_of_f_nor_is_measured_as_often_as_the_budget_says(make_sweep, tmp_path):
    (tmp_path / "nor.yaml").write_text("data: {shards: [x]}\ntrainer: {batch_per_rank: 4}\n")
    sweep = make_sweep(
        stage="nor", base=str(tmp_path / "nor.yaml"), space={"losses.rec": {"uniform": [1, 9]}},
        budget={"trials": 2, "images": 1000, "reports": 7}, resources={"processes": 2},
    )  # fmt: skip
    base = Base(sweep)
    config = base.trial_config({"losses.rec": 5.0}, Path("x"))
    assert isinstance(config, NorConfig) and config.losses.rec == 5.0
    # 125 steps of 8 pictures: seven looks, 18 steps apart.
    assert config.trainer.evaluate_every_steps == 18 and base.reports() == 7
    assert base.metric == "score"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_sweep_is_valid_and_so_is_its_space(path, monkeypatch):
    monkeypatch.chdir(path.parents[2])
    sweep = load_config(SweepConfig, path)
    base = Base(sweep)
    base.check_space()
    assert Study(sweep).propose(0, base.fits)
    assert sweep.trials >= 3
