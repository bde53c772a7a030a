"""Sums by person agree with the metrics; intervals behave as intervals."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from norface.cli.main import main
from norface.errors import CorpusError
from norface.evaluation import metrics
from norface.evaluation.predictions import tabulate, write_predictions
from norface.evaluation.statistics import bootstrap, compare_settings, sum_by_person
from norface.evaluation.summary import format_summary, score_table, summarize


def make_table(
    fold: str = "test=part1", *, seed: int = 0, noise: float = 0.5, persons: int = 12, task="au"
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frames = 10
    names = [f"S{fold[-1]}{i:02d}" for i in range(persons) for _ in range(frames)]
    truth = (rng.random((len(names), 3)) < 0.4).astype(float)
    if task == "intensity":
        truth = truth * rng.integers(1, 6, truth.shape)
    scores = np.clip(truth + noise * rng.normal(size=truth.shape), 0, 5 if task != "au" else 1)
    return tabulate(
        keys=[f"synthetic_{name}_c_{i}" for i, name in enumerate(names)],
        subjects=names,
        fold=fold,
        targets=["AU1", "AU4", "AU12"],
        truth=truth,
        scores=scores,
    )


def make_emotions(fold: str = "test=part1") -> pd.DataFrame:
    truth = np.eye(3)[[0, 0, 1, 2]]
    scores = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.9, 0.0], [0.0, 0.1, 0.9]])
    return tabulate(
        keys=[f"k_{i}" for i in range(4)], subjects=[""] * 4, fold=fold,
        targets=["anger", "fear", "neutral"], truth=truth, scores=scores,
    )  # fmt: skip


@pytest.mark.parametrize(("task", "metric"), [("au", "f1"), ("intensity", "icc")])
def test_sums_by_person_give_the_metric_of_the_pooled_fold(task, metric):
    table = make_table(task=task)
    point, _ = bootstrap([[sum_by_person(table, task)]], metric, draws=10)
    expected = score_table(table, task)[metric]
    assert point.tolist() == pytest.approx([expected[t] for t in ("AU1", "AU4", "AU12")])


def test_f1_is_pooled_over_the_fold_and_averaged_over_units():
    table = make_table()
    found = score_table(table, "au")["f1"]
    each = [
        f1_score(rows["truth"], rows["score"] >= 0.5)
        for _, rows in table.groupby("target", sort=False)
    ]
    assert found["mean"] == pytest.approx(np.mean(each))


def test_emotion_is_the_class_with_the_highest_score():
    found = score_table(make_emotions(), "emotion")
    assert found["accuracy"]["mean"] == 0.75
    each = {"anger": 0.5, "fear": 1.0, "neutral": 1.0}
    assert found["recall"] == {**each, "mean": pytest.approx(5 / 6)}
    summary = summarize({"test=part1": [make_emotions()]}, "emotion")
    assert summary["mean"]["value"] == 0.75
    assert summary["persons"] == 4


def test_confusions_are_counted_over_all_folds_in_the_one_order_of_emotions():
    first, second = make_emotions(), make_emotions("test=part2")
    second["key"] = "other_" + second["key"]
    summary = summarize({"test=part1": [first], "test=part2": [second]}, "emotion")
    assert summary["confusion"]["classes"] == ["neutral", "fear", "anger"]
    # True anger: once right, once taken for fear; twice, for there are two folds.
    assert summary["confusion"]["counts"] == [[2, 0, 0], [0, 2, 0], [0, 2, 2]]
    text = format_summary("x", summary)
    assert "50.0" in text.splitlines()[-1]


def test_one_emotion_only_is_measured_and_has_one_recall():
    table = make_emotions()
    some = table["key"].isin(["k_0", "k_1"])
    found = score_table(table[some], "emotion")
    assert found["accuracy"]["mean"] == 0.5
    assert found["recall"] == {"anger": 0.5, "mean": 0.5}


def test_the_interval_holds_the_point_and_narrows_with_more_persons():
    few = summarize({"test=part1": [make_table(persons=6)]}, "au")["mean"]
    many = summarize({"test=part1": [make_table(persons=60)]}, "au")["mean"]
    assert few["low"] < few["value"] < few["high"]
    assert many["high"] - many["low"] < few["high"] - few["low"]


def test_persons_are_drawn_not_frames():
    # Two persons, one always right and one always wrong: the interval spans everything.
    one = make_table(persons=2, noise=0.0)
    wrong = one["subject"] == "S101"
    one.loc[wrong, "score"] = 1 - one.loc[wrong, "score"]
    interval = summarize({"test=part1": [one]}, "au")["mean"]
    assert interval["low"] == 0
    assert interval["high"] == 1


def test_settings_are_compared_on_the_same_draws():
    good = [[sum_by_person(make_table(noise=0.3), "au")]]
    bad = [[sum_by_person(make_table(noise=0.6), "au")]]
    difference = compare_settings(bad, good, "f1")
    assert 0 < difference.low < difference.value < difference.high
    none = compare_settings(good, good, "f1")
    assert (none.value, none.low, none.high) == (0, 0, 0)


def test_unlabelled_frames_count_nowhere():
    table = make_table()
    missing = table["target"].eq("AU4") & (np.arange(len(table)) % 2 == 0)
    table.loc[missing, "truth"] = np.nan
    rows = table[(table["target"] == "AU4") & ~missing]
    expected = metrics.binary_f1(rows["truth"].to_numpy(), rows["score"].to_numpy() >= 0.5)
    assert summarize({"f": [table]}, "au")["folds"]["f"]["AU4"] == pytest.approx(expected, abs=1e-6)


def test_a_fold_without_labels_is_refused():
    table = make_table()
    table["truth"] = np.nan
    with pytest.raises(CorpusError, match="no sample has a label"):
        summarize({"f": [table]}, "au")


def test_a_unit_that_is_never_present_has_f1_zero_and_is_named():
    table = make_table()
    table.loc[table["target"] == "AU4", ["truth", "score"]] = 0.0
    summary = summarize({"test=part1": [table]}, "au")
    assert summary["targets"]["AU4"] == {"value": 0, "low": 0, "high": 0}
    assert "AU4 never present" in format_summary("x", summary)
    # An area under the curve of one class is no number: it is left out, and json has none.
    assert "AU4" not in summary["other_targets"]["auc"]
    table["truth"] = 0.0
    alone = summarize({"test=part1": [table]}, "au")
    assert "auc" not in alone["others"] and "auc" not in alone["other_targets"]
    json.dumps([summary, alone], allow_nan=False)


def test_evaluate_reads_predictions_alone(tmp_path, capsys):
    paths = []
    for part in (1, 2, 3):
        paths.append(tmp_path / f"{part}.parquet")
        write_predictions(make_table(f"test=part{part}", seed=part), paths[-1], task="au")
    assert main(["evaluate", *map(str, paths), "--json", str(tmp_path / "out.json")]) == 0
    text = capsys.readouterr().out
    assert "f1 in %, 360 frames of 36 persons" in text
    assert "AU12" in text
    assert "f1_micro" in text
    assert (tmp_path / "out.json").exists()


def test_evaluate_refuses_folds_with_different_numbers_of_seeds(tmp_path, capsys):
    paths = [tmp_path / f"{i}.parquet" for i in range(3)]
    for path, part in zip(paths, (1, 1, 2), strict=True):
        write_predictions(make_table(f"test=part{part}"), path, task="au")
    assert main(["evaluate", *map(str, paths)]) == 2
    assert "give all seeds" in capsys.readouterr().err
