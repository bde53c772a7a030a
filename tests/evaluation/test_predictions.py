"""Predictions travel through parquet whole, or are refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from norface.cli.main import main
from norface.errors import CorpusError
from norface.evaluation.collecting import summarize_settings
from norface.evaluation.predictions import (
    check_folds,
    read_predictions,
    require_keys,
    tabulate,
    write_predictions,
)
from norface.evaluation.statistics import persons_of


@pytest.fixture
def table() -> pd.DataFrame:
    return tabulate(
        keys=["a_1_c_0", "a_1_c_1", "a_2_c_0"],
        subjects=["1", "1", "2"],
        fold="test=part1",
        targets=["AU1", "AU12"],
        truth=np.array([[1, 0], [0, np.nan], [1, 1]]),
        scores=np.array([[0.9, 0.2], [0.1, 0.3], [0.4, 0.8]]),
    )


def test_predictions_come_back_with_missing_truth_as_missing(tmp_path, table):
    path = tmp_path / "predictions.parquet"
    write_predictions(table, path, task="au")
    found, task = read_predictions(path)
    pd.testing.assert_frame_equal(found, table, check_dtype=False)
    assert task == "au"
    assert pd.read_parquet(path)["truth"].isna().sum() == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_doubled_row_is_refused_by_name(tmp_path, table):
    with pytest.raises(CorpusError, match="a_1_c_0 has AU1 more than once"):
        write_predictions(pd.concat([table, table.iloc[:1]]), tmp_path / "x.parquet", task="au")


def test_a_key_that_lacks_a_target_is_refused_by_name(tmp_path, table):
    with pytest.raises(CorpusError, match="a_2_c_0 has 1 of 2 targets"):
        write_predictions(table.iloc[:-1], tmp_path / "x.parquet", task="au")


def test_a_score_that_is_no_number_is_refused(tmp_path, table):
    table.loc[2, "score"] = np.nan
    with pytest.raises(CorpusError, match="score of a_1_c_1 is not a finite number"):
        write_predictions(table, tmp_path / "x.parquet", task="au")


def test_keys_must_be_exactly_those_of_the_fold(table):
    require_keys(table, ["a_1_c_0", "a_1_c_1", "a_2_c_0"], "p")
    with pytest.raises(CorpusError, match="1 keys are missing, first a_3_c_0"):
        require_keys(table, ["a_1_c_0", "a_1_c_1", "a_2_c_0", "a_3_c_0"], "p")
    with pytest.raises(CorpusError, match="1 keys are not of this fold, first a_2_c_0"):
        require_keys(table, ["a_1_c_0", "a_1_c_1"], "p")


def test_somebody_elses_table_says_its_task_by_its_values(tmp_path, table):
    path = tmp_path / "theirs.parquet"
    table.to_parquet(path)
    assert read_predictions(path)[1] == "au"
    table.assign(truth=table["truth"] * 3).to_parquet(path)
    assert read_predictions(path)[1] == "intensity"


def test_a_table_without_a_column_is_refused(tmp_path, table):
    path = tmp_path / "theirs.parquet"
    table.drop(columns="fold").to_parquet(path)
    with pytest.raises(CorpusError, match="no column fold"):
        read_predictions(path)
    with pytest.raises(CorpusError, match="no such file"):
        read_predictions(tmp_path / "none.parquet")


def test_numbers_are_keys_and_units_too(tmp_path, capsys):
    """Frames numbered from 0 and units as numbers, as others write them."""
    theirs = pd.DataFrame({
        "key": [0, 0, 1, 1], "subject": [7, 7, 8, 8], "fold": 1, "target": [1, 12, 1, 12],
        "truth": [0, 1, 1, 0], "score": [0.1, 0.9, 0.8, 0.2],
    })  # fmt: skip
    theirs.to_parquet(tmp_path / "theirs.parquet")
    assert main(["evaluate", "--task", "au", str(tmp_path / "theirs.parquet")]) == 0
    assert "f1 in %, 2 frames of 2 persons" in capsys.readouterr().out


def test_a_row_without_a_key_and_a_key_of_two_folds_are_refused(tmp_path, table):
    lost = table.copy()
    lost.loc[1, "key"] = None
    with pytest.raises(CorpusError, match="a row lacks its key"):
        write_predictions(lost, tmp_path / "x.parquet", task="au")
    torn = table.copy()
    torn.loc[3, "fold"] = "test=part2"
    with pytest.raises(CorpusError, match="a_1_c_1 is in two folds"):
        write_predictions(torn, tmp_path / "x.parquet", task="au")


def test_logits_are_no_probabilities_and_nine_is_no_label(tmp_path, table):
    logits = table.assign(score=table["score"] * 4)
    with pytest.raises(CorpusError, match="score of a_1_c_0 for AU1 is 3.6; detection has prob"):
        write_predictions(logits, tmp_path / "x.parquet", task="au")
    coded = table.copy()
    coded.loc[5, "truth"] = 9
    with pytest.raises(CorpusError, match="truth of a_2_c_0 for AU12 is 9; expected 0 or 1"):
        write_predictions(coded, tmp_path / "x.parquet", task="au")
    with pytest.raises(CorpusError, match="expected an intensity of 0..5"):
        write_predictions(coded, tmp_path / "x.parquet", task="intensity")


def test_one_class_alone_is_no_recognition(tmp_path, table, capsys):
    """Every answer would be right: an accuracy of 100 %."""
    alone = table[table["target"] == "AU1"].assign(target="fear", truth=1.0)
    alone.to_parquet(tmp_path / "x.parquet")
    assert main(["evaluate", str(tmp_path / "x.parquet")]) == 2
    assert "fear is the only class; recognition needs" in capsys.readouterr().err


def test_figures_go_into_a_folder_that_is_not_there_yet(tmp_path, table):
    write_predictions(table, tmp_path / "x.parquet", task="au")
    where = tmp_path / "new" / "x.json"
    assert main(["evaluate", str(tmp_path / "x.parquet"), "--json", str(where)]) == 0
    assert json.loads(where.read_text())["frames"] == 3


def test_an_emotion_has_one_true_class_or_none_at_all(tmp_path):
    def make(*truth):
        return tabulate(
            keys=["k_0", "k_1"], subjects=["", ""], fold="f", targets=["fear", "anger"],
            truth=np.array(truth), scores=np.full((2, 2), 0.5),
        )  # fmt: skip

    path = tmp_path / "x.parquet"
    nan = np.nan
    write_predictions(make([1, 0], [nan, nan]), path, task="emotion")
    for bad in ([0, 0], [1, 1], [1, nan], [0.5, 0.5]):
        with pytest.raises(CorpusError, match="truth of k_1 is not 1 for one emotion"):
            write_predictions(make([0, 1], bad), path, task="emotion")


def test_a_file_of_another_task_is_refused(tmp_path, table):
    path = tmp_path / "x.parquet"
    write_predictions(table, path, task="au")
    with pytest.raises(CorpusError, match="holds predictions of the task au, not intensity"):
        read_predictions(path, "intensity")
    table.to_parquet(path)
    assert read_predictions(path, "intensity")[1] == "intensity"


def test_no_sample_counts_twice_and_seeds_are_of_the_same_samples(table):
    check_folds({"test=part1": [table, table]})
    with pytest.raises(CorpusError, match="a_1_c_0 is tested in the folds test=part1 and other"):
        check_folds({"test=part1": [table], "other": [table]})
    with pytest.raises(CorpusError, match="fold test=part1, file 2: 1 keys are missing, first a_2"):
        check_folds({"test=part1": [table, table[table["key"] != "a_2_c_0"]]})


def test_settings_of_different_samples_are_not_compared(table):
    """Shards that were written again between two trainings: no pair of figures is paired."""
    fewer = table[table["key"] != "a_2_c_0"]
    summarize_settings({"without": {"f": [table]}, "norface": {"f": [table]}}, "au")
    with pytest.raises(CorpusError, match="norface, f: not tested on what without was.*first a_2"):
        summarize_settings({"without": {"f": [table]}, "norface": {"f": [fewer]}}, "au")


@pytest.mark.parametrize(
    ("key", "person"),
    [
        ("bp4d_F001_T1_{}", "bp4d/F001"),
        ("F001/T1/{}.jpg", "F001"),
        ("T{}_F001_9", "F001"),
        ("{}", "F001"),
    ],
)
def test_a_persons_frames_are_one_persons_in_anybodys_predictions(key, person):
    """Intervals draw persons: a person of every frame would make them far too narrow."""
    keys = [key.format(number) for number in range(3)]
    table = pd.DataFrame({"key": keys, "subject": "F001"})
    assert list(persons_of(table)) == [person] * 3
    unnamed = table.assign(subject=["", None, "F002"])
    assert list(persons_of(unnamed))[:2] == keys[:2]
