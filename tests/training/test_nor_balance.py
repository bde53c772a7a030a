"""Stage `nor` with balanced losses, and the table of shares under both norms."""

import json

import pytest
from small_nor import WEIGHTS, config_maker

from norface.cli.main import main
from norface.config import save_config
from norface.errors import ConfigError
from norface.tracking import TrackingConfig, read_metrics
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.run import run_stage
from norface.training.stages.nor import NorStage

SHARES = {"id": 0.5, "exp": 0.3, "lm": 0.2}


@pytest.fixture
def make_config(tmp_path):
    """A function that gives a config with small networks, faces and judges, and changes."""
    trainer = {"images": 16, "batch_per_rank": 4, "log_every_steps": 1}
    tracking = TrackingConfig(mlflow=False)
    return config_maker(tmp_path, trainer=trainer, root=tmp_path, tracking=tracking)


def test_shares_at_the_start_are_those_asked_for_and_weights_are_logged_and_then_stay(make_config):
    balance = {"shares": SHARES, "steps": 2}
    config = make_config(losses={**WEIGHTS, "balance": balance})
    lines = read_metrics(run_stage(NorStage, config))
    assert len(lines) == 4
    first = {term: lines[0][f"grad_share/{term}"] for term in SHARES}
    total = sum(first.values())
    for term, share in SHARES.items():
        assert first[term] / total == pytest.approx(share, abs=1e-3)
        weights = [line[f"weight/{term}"] for line in lines]
        assert weights[0] != weights[1] and weights[1] == weights[2] == weights[3]
    # Terms that are not named keep their weight and their pull.
    assert lines[0]["grad_share/rec"] > 0 and "weight/rec" not in lines[0]


def test_a_resumed_stage_goes_on_with_the_weights_that_it_had(make_config):
    config = make_config(losses={**WEIGHTS, "balance": {"shares": SHARES, "steps": 1}})
    stage = NorStage(config, build_backend(BackendConfig()))
    stage.train_batch(next(stage.batches(0)), 0)
    again = NorStage(config, build_backend(BackendConfig()))
    assert again.balancer.weights != stage.balancer.weights
    again.load_state_dict(stage.state_dict())
    assert again.balancer.weights == stage.balancer.weights


def test_balancing_what_is_not_trained_on_is_refused_before_training(make_config):
    config = make_config(losses={**WEIGHTS, "balance": {"shares": {"id": 1, "eye": 1}}})
    with pytest.raises(ConfigError, match="losses.balance.shares: names 'eye'"):
        NorStage(config, build_backend(BackendConfig()))


def test_the_table_holds_both_norms_of_every_term_and_shares_that_sum_to_one(
    make_config, tmp_path, capsys
):
    save_config(make_config(), tmp_path / "nor.yaml")
    assert main(["critics", "shares", "-c", str(tmp_path / "nor.yaml"), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert (table["generator"], table["pairs"]) == ("fresh weights", 4)
    assert 0 <= table["self_pairs"] <= 4
    terms = table["terms"]
    assert set(terms) == {"adv", "rec", "perc", "id", "lm", "exp", "eye"}
    for norm in ("mse", "l2"):
        shares = [row[norm]["share"] for row in terms.values() if row["weight"] > 0]
        assert sum(shares) == pytest.approx(1)
        assert terms["eye"][norm]["share"] is None
    # Terms that know no norm are the same under both; the others are not.
    assert terms["id"]["mse"]["loss"] == pytest.approx(terms["id"]["l2"]["loss"])
    assert terms["exp"]["mse"]["loss"] != pytest.approx(terms["exp"]["l2"]["loss"])
    assert main(["critics", "shares", "-c", str(tmp_path / "nor.yaml")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split() == ["term", "weight", "loss", "mse", "share", "loss", "l2", "share"]
    assert [line.split()[0] for line in shown[2:]] == list(terms)
    assert shown[2:][list(terms).index("eye")].split()[3] == "-"
