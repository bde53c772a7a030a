"""The paper's numbers as data: complete, consistent, and its own slips known one by one."""

from __future__ import annotations

import csv
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from norface.config import load_config, read_yaml
from norface.errors import ConfigError
from norface.evaluation.crossval_config import CrossvalConfig
from norface.paper.compare import TableSpec, known_experiments
from norface.paper.published import (
    FOLDER,
    MEAN,
    find_slips,
    find_twins,
    list_tables,
    load_table,
    read_notes,
)
from norface.paper.study import load_study

CONFIGS = Path(__file__).parents[2] / "configs"


def read_list(name: str) -> list[dict[str, str]]:
    with open(FOLDER / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_mean_and_difference_is_right_but_for_the_papers_own_slips():
    found = {
        (s.table, s.experiment, s.metric, s.row, s.column, s.printed, round(s.computed, 4))
        for table in list_tables()
        for s in find_slips(load_table(table))
    }
    names = ("table", "experiment", "metric", "row", "column")
    listed = {
        (*[line[name] for name in names], Decimal(line["printed"]), Decimal(line["computed"]))
        for line in read_list("slips.csv")
    }
    assert found == listed


def test_rows_with_the_same_numbers_are_the_two_that_are_known():
    found = [(table, *twin) for table in list_tables() for twin in find_twins(load_table(table))]
    assert found == [tuple(line.values()) for line in read_list("twins.csv")]


def test_no_row_of_the_paper_is_left_out():
    counts = {
        name: Counter(row.experiment for row in load_table(name).rows) for name in list_tables()
    }
    assert counts["table1"] == {"bp4d": 9, "bp4dplus": 5}
    assert counts["table2"] == {"disfa": 5}
    # ICC, MSE and MAE: 5 + 4 + 4 rows; ISIR has no numbers on DISFA, twice.
    assert counts["table3"] == {"bp4d-intensity": 13, "disfa-intensity": 11}
    assert counts["table4"] == {"rafdb": 11, "affectnet": 9}
    assert counts["table5"] == {"bp4d-to-bp4dplus": 4}
    assert counts["table6"] == {"rafdb-to-affectnet": 5, "affectnet-to-rafdb": 2}
    assert sum(counts["table8"].values()) == 25
    assert sum(counts["table9"].values()) == 21
    units = {row.experiment: len(row.units) for row in load_table("table3").rows}
    assert units == {"bp4d-intensity": 5, "disfa-intensity": 12}


def test_numbers_typed_by_hand_are_the_stored_ones():
    def number(table: str, experiment: str, metric: str, row: str, column: str) -> str:
        rows = {one.row: one for one in load_table(table).of(experiment, metric)}
        return str(rows[row].values[column])

    assert number("table1", "bp4d", "f1", "Norface (Ours)", "AU23") == "54.9"
    assert number("table1", "bp4dplus", "f1", "MS-CAM [83]", "AU15") == "60.9"
    assert number("table2", "disfa", "f1", "LGRNet [17]", "AU26") == "73.0"
    assert number("table3", "disfa-intensity", "icc", "SCC-Heatmap [16]", "AU26") == "0.78"
    assert number("table3", "bp4d-intensity", "mae", "Norface (Ours)", "AU14") == "0.82"
    assert number("table5", "bp4d-to-bp4dplus", "f1", "EAC-Net [35]", "AU24") == "32.8"
    assert number("table9", "affectnet", "accuracy", "w/ E_exp & E_eye", MEAN) == "67.06"


def test_the_papers_own_result_is_the_same_in_every_table():
    whole = {
        "bp4d": "69.3",
        "bp4dplus": "66.7",
        "disfa": "72.7",
        "rafdb": "92.97",
        "affectnet": "68.69",
    }
    for name in ("table1", "table2", "table4", "table7", "table8", "table9", "table11", "table12"):
        table = load_table(name)
        for experiment in table.experiments:
            assert str(table.of(experiment)[-1].values[MEAN]) == whole[experiment], (
                name,
                experiment,
            )


def test_the_papers_own_units_differ_between_two_tables_and_a_note_says_so():
    one = load_table("table1").of("bp4d")[-1].units
    other, note = load_table("table10").of("bp4d")[-1].units, load_table("table10").note
    assert len(other) == 5 and all(one[unit] != value for unit, value in other.items())
    assert all(str(one[unit]) in note for unit in other)
    rows = {row.row: row.values[MEAN] for row in load_table("table3").of("disfa-intensity", "icc")}
    assert rows["Norface (Ours)"] - rows["APs [56]"] == Decimal("0.09")
    assert "differ by 0.09" in load_table("table3").note


def test_every_method_has_one_citation_but_for_the_one_that_a_note_names():
    numbers: dict[str, set[str]] = {}
    for table in list_tables():
        for row in load_table(table).rows:
            if found := re.match(r"(.+) (\[\d+\])", row.row):
                numbers.setdefault(found[1], set()).add(found[2])
    assert {name: found for name, found in numbers.items() if len(found) > 1} == {
        "SCC-Heatmap": {"[16]", "[56]"}
    }
    assert numbers["APs"] == {"[56]"}
    assert "SCC-Heatmap is [16] in the rows of ICC and [56], which" in load_table("table3").note


def test_notes_say_the_slips_of_a_table():
    notes = read_notes("table5")
    assert len(notes) == 2 and "prints 57.5 as Avg.; its row gives 59.2917" in notes[0]
    assert any("have the same numbers" in note for note in read_notes("table3"))
    assert read_notes("table7") == []


@pytest.mark.parametrize("name", list_tables())
def test_every_table_has_a_config_that_names_its_rows_and_settings(name):
    spec = load_config(TableSpec, CONFIGS / "paper" / f"{name}.yaml")
    settings = read_yaml(CONFIGS / "paper" / "settings.yaml")
    assert set(spec.rows.values()) <= settings.keys()
    rows = {row.row for row in load_table(name).rows}
    # The curve of Figure 7 has points that the text gives no numbers of.
    assert set(spec.rows) <= rows or name == "fig7"


@pytest.mark.parametrize("experiment", known_experiments())
def test_every_experiment_has_a_classifier_with_the_papers_rate_and_weights(experiment):
    cla = load_config(CrossvalConfig, CONFIGS / "cla" / f"{experiment}.yaml").cla
    rates = {"au": 1e-4, "intensity": 1e-3, "emotion": 2e-5}
    assert cla.optimizer.learning_rate == rates[cla.task]
    assert (cla.losses.importance, cla.losses.global_local) == (0.001, 0.001)
    assert (cla.model.moe.experts, cla.model.moe.top_k, cla.epochs) == (4, 2, 40)
    assert (cla.model.vit.side, cla.model.vit.patch, cla.model.vit.width) == (256, 16, 768)


def test_an_unknown_table_gets_the_list_of_right_ones():
    with pytest.raises(ConfigError, match="'table13' is no table with numbers; there are: table1,"):
        load_table("table13")


def test_the_papers_user_study_is_stored_and_fits_its_own_t():
    ours, *others = load_study()
    assert (ours.row, ours.mean, ours.sd, ours.t) == ("Norface (Ours)", "4.6", "0.49", "")
    assert [(one.mean, one.t, one.df) for one in others] == [
        ("2.2", "21.00", "49"),
        ("1.8", "26.19", "49"),
        ("1.6", "33.20", "49"),
    ]
    for one in others:
        # t = difference / (sd of the differences / sqrt(50)); the sd tells how the marks go
        # together: r = (s1^2 + s2^2 - sd^2) / (2 s1 s2).
        difference = float(ours.mean) - float(one.mean)
        spread = difference * 50**0.5 / float(one.t)
        first, second = float(ours.sd), float(one.sd)
        together = (first**2 + second**2 - spread**2) / (2 * first * second)
        assert -1 < together < 1
