"""`norface bench start | saving | scaling`: small real trainings, and how shares are counted."""

import json
from pathlib import Path

import numpy as np
import pytest

from norface.bench.saving import split_times
from norface.bench.scaling import NETWORKS, rate_of
from norface.bench.training import start_training, wait_for, write_small_nor
from norface.cli.main import main
from norface.config import read_yaml
from norface.errors import TrainingError

PROJECT = Path(__file__).resolve().parents[2]


def test_a_save_counts_in_the_line_after_it():
    # 4 steps of 8 pictures: 16 pictures a second are 2 s; a fifth of all time saved is 0.5 s.
    lines = [
        {"images_per_second": 1.0, "save_share": 0.0},
        {"images_per_second": 16.0, "save_share": 0.2},
        {"images_per_second": 8.0, "save_share": 0.0},
    ]
    step_s, save_s = split_times(lines, steps=4, batch=8)
    np.testing.assert_allclose(step_s, [0.5, 1.0])
    np.testing.assert_allclose(save_s, [0.5, 0.0])


def test_a_rate_leaves_out_the_first_window():
    assert rate_of([{"images_per_second": rate} for rate in (1.0, 30.0, 10.0, 20.0)]) == 20.0


@pytest.mark.slow
def test_a_training_that_fails_is_told_with_what_it_said(tmp_path):
    config = write_small_nor(tmp_path, steps=1)
    process = start_training(config, "broken", "trainer.batch_per_rank=0")
    with pytest.raises(TrainingError, match=r"broken: the training failed: .*batch_per_rank"):
        wait_for([process], config, "broken")


@pytest.mark.slow
def test_bench_start_is_slower_than_an_import(capsys):
    assert main(["bench", "start", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["start"]
    assert found["seconds"] > 0 and found["ratio"] > 1 and found["rounds"] == 1


@pytest.mark.slow
def test_bench_saving_counts_every_save_but_the_last_and_its_share_of_the_default(capsys):
    assert main(["bench", "saving", "--steps", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["saving"]
    assert found["saves"] == 8 and found["interval"] == 1000
    worth = found["steps_a_save"]
    assert found["share"] == pytest.approx(worth / (1000 + worth), abs=2e-6)
    # Weights, average, two moments of the generator; the reader alone holds 2.6 MB.
    assert found["checkpoint_mb"] > 10


def test_the_papers_network_of_bench_scaling_is_that_of_the_config():
    config = read_yaml(PROJECT / "configs" / "nor" / "synthetic-64-paper.yaml")
    assert NETWORKS["paper"]["normalizer"] == config["normalizer"]


@pytest.mark.slow
def test_bench_scaling_trains_together_and_apart_and_divides_their_rates(capsys):
    assert main(["bench", "scaling", "--rounds", "1", "--steps", "1", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert list(both) == ["scaling quickstart", "scaling paper"]
    few, many = (both[f"scaling {network}"]["gradients_mb"] for network in ("paper", "quickstart"))
    # The decoder's maps of 64 places, (256, 256) and (256, 384), are most of quickstart's.
    assert 1 < few < 10 and many > 64 * 256 * (256 + 384) * 4 / 1e6
    for found in both.values():
        assert found["rounds"] == 1 and found["together"] > 0 and found["apart"] > 0
        # Each rate is rounded to a hundredth of a picture a second.
        expected, off = found["together"] / found["apart"], 0.02 / min(found["apart"], 1)
        assert found["ratio"] == pytest.approx(expected, rel=off, abs=1e-4)
