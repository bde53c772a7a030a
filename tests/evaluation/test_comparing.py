"""Folds side by side: worked values, independent oracles, refusals, what a reader sees."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from norface.cli.main import main
from norface.errors import CorpusError
from norface.evaluation.comparing import compare, paired_t, two_sided
from norface.evaluation.fold_sources import FoldSet
from norface.evaluation.predictions import tabulate, write_predictions
from norface.evaluation.statistics import bootstrap, sum_by_person
from norface.tracking import TrackingConfig, open_run

UNITS = ["AU1", "AU4", "AU12"]
FOLDS = ("test=part1", "test=part2", "test=part3")
ORACLE = {
    "f1": lambda truth, score: f1_score(truth, score >= 0.5),
    "accuracy": lambda truth, score: accuracy_score(truth, score >= 0.5),
    "auc": roc_auc_score,
}


def make_fold(
    fold: str, *, noise: float, corpus: str = "bp4d", task: str = "au", bad: str = "", seed: int = 0
) -> pd.DataFrame:
    """Ten persons of 20 frames, the same truth for every noise; `bad` is a unit of pure noise."""
    rng = np.random.default_rng([int(fold[-1]), 5])
    names = [f"F{fold[-1]}{person:02d}" for person in range(10) for _ in range(20)]
    truth = (rng.random((len(names), len(UNITS))) < 0.4).astype(float)
    if task == "intensity":
        truth = truth * rng.integers(1, 6, truth.shape)
    added = np.random.default_rng([int(fold[-1]), 9, seed]).normal(size=truth.shape)
    scores = truth + noise * added
    if bad:
        scores[:, UNITS.index(bad)] = 0.5 + 0.3 * added[:, UNITS.index(bad)]
    return tabulate(
        keys=[f"{corpus}_{name}_c_{number}" for number, name in enumerate(names)],
        subjects=names,
        fold=fold,
        targets=UNITS,
        truth=truth,
        scores=np.clip(scores, 0, 1 if task == "au" else 5),
    )


def make_set(name: str, noise: float, folds=FOLDS, **options) -> FoldSet:
    tables = {fold: [make_fold(fold, noise=noise, **options)] for fold in folds}
    return FoldSet(name, options.get("task", "au"), tables)


def write_crossval(root: Path, settings: dict[str, float], folds=FOLDS, **options) -> Path:
    """Run folders as `norface crossval` leaves them."""
    off = TrackingConfig(mlflow=False)
    open_run(root, kind="crossval", tracking=off, tags={"settings": ", ".join(settings)}).finish()
    for setting, noise in settings.items():
        for fold in folds:
            folder = root / setting / "seed0" / fold
            tags = {"setting": setting, "fold": fold, "seed": "0"}
            open_run(folder, kind="cla", tracking=off, root=root.parent, tags=tags).finish()
            write_predictions(
                make_fold(fold, noise=noise, **options),
                folder / "predictions.parquet",
                task=options.get("task", "au"),
            )
    return root


def per_unit(table: pd.DataFrame, metric: str) -> list[float]:
    return [
        ORACLE[metric](rows["truth"].to_numpy(), rows["score"].to_numpy())
        for _, rows in table.groupby("target", sort=False)
    ]


@pytest.mark.parametrize("metric", ORACLE)
def test_a_cell_is_what_scikit_learn_says_and_the_row_its_mean_and_deviation(metric):
    one = make_set("without", 0.6)
    rows = compare([one], [metric])["metrics"][metric]["settings"]["without"]
    expected = np.array([per_unit(tables[0], metric) for tables in one.folds.values()])
    for number, unit in enumerate(UNITS):
        assert list(rows[unit]["folds"].values()) == pytest.approx(expected[:, number], abs=1e-6)
        assert rows[unit]["mean"] == pytest.approx(expected[:, number].mean(), abs=1e-6)
        assert rows[unit]["sd"] == pytest.approx(expected[:, number].std(ddof=1), abs=1e-6)
    assert rows["mean"]["mean"] == pytest.approx(expected.mean(), abs=1e-6)
    assert rows["mean"]["low"] < rows["mean"]["mean"] < rows["mean"]["high"]


def test_the_area_under_the_curve_of_drawn_persons_is_that_of_their_frames_repeated():
    table = make_fold("test=part1", noise=0.8)
    table["score"] = table["score"].round(1)
    sums = sum_by_person(table, "au", "auc")
    counts = np.array([0, 2, 1, 0, 3, 1, 1, 0, 1, 1])
    drawn = pd.concat(
        table[table["subject"] == person.partition("/")[2]]
        for person, count in zip(sums.persons, counts, strict=True)
        for _ in range(count)
    )
    found = sums.value("auc", counts[None, :].astype(float))[0]
    assert found == pytest.approx(per_unit(drawn, "auc"))


def test_a_draw_without_a_positive_has_no_area_and_does_not_spoil_the_interval():
    table = make_fold("test=part1", noise=0.5)
    rare = (table["target"] == "AU4") & (table["subject"] != "F100")
    table.loc[rare, "truth"] = 0.0
    point, draws = bootstrap([[sum_by_person(table, "au", "auc")]], "auc", draws=200)
    assert np.isnan(draws[:, 1]).any() and not np.isnan(point).any()
    row = compare([FoldSet("x", "au", {"test=part1": [table]})], ["auc"])
    row = row["metrics"]["auc"]["settings"]["x"]["AU4"]
    assert row["low"] <= row["mean"] <= row["high"]


def test_paired_tests_agree_with_scipy_and_with_the_sign_of_every_draw():
    found = compare([make_set("without", 0.7), make_set("norface", 0.5)], ["f1"])
    (test,) = found["metrics"]["f1"]["tests"]
    rows = found["metrics"]["f1"]["settings"]
    ours, theirs = (list(rows[name]["mean"]["folds"].values()) for name in ("norface", "without"))
    expected = stats.ttest_rel(ours, theirs)
    assert test["t"]["t"] == pytest.approx(expected.statistic, rel=1e-4)
    assert test["t"]["p"] == pytest.approx(expected.pvalue, rel=1e-3) and test["t"]["df"] == 2
    whole = test["differences"]["mean"]
    assert 0 < whole["low"] < whole["value"] < whole["high"] and whole["p"] < 0.01
    assert whole["value"] == pytest.approx(np.mean(ours) - np.mean(theirs), abs=1e-6)


def test_p_counts_draws_on_the_rarer_side():
    assert two_sided(np.array([-1.0] * 4 + [1.0] * 95)) == pytest.approx(2 * 5 / 100)
    assert two_sided(np.array([0.0] * 99)) == 1
    assert two_sided(np.array([np.nan])) is None
    assert paired_t([0.5, 0.6], [0.4, 0.5]) is None
    assert paired_t([0.5], [0.4]) is None


def test_a_setting_against_itself_differs_nowhere():
    one, two = make_set("a", 0.5), make_set("b", 0.5)
    for metric, found in compare([one, two])["metrics"].items():
        (test,) = found["tests"]
        assert test["t"] is None, metric
        assert {row["value"] for row in test["differences"].values()} == {0}
        assert {row["p"] for row in test["differences"].values()} == {1}


def test_targets_in_another_order_are_compared_by_name():
    one, two = make_set("a", 0.5), make_set("b", 0.5)
    for tables in two.folds.values():
        tables[0] = tables[0].iloc[::-1].reset_index(drop=True)
    found = compare([one, two], ["f1", "auc"])
    for metric in ("f1", "auc"):
        (test,) = found["metrics"][metric]["tests"]
        assert {row["value"] for row in test["differences"].values()} == {0}


def test_a_unit_that_fails_in_one_fold_is_pointed_at_and_the_others_are_not():
    sets = make_set("norface", 0.4)
    assert compare([sets], ["f1"])["metrics"]["f1"]["remarks"] == []
    sets.folds["test=part2"] = [make_fold("test=part2", noise=0.4, bad="AU4")]
    (first, *rest) = compare([sets], ["f1"])["metrics"]["f1"]["remarks"]
    said = " ".join([first, *rest])
    assert "norface, test=part2: AU4 is" in said and "below the" in said
    assert "AU12" not in said and "test=part3" not in said


def test_a_fold_beyond_two_deviations_is_pointed_at_where_there_are_enough_folds():
    names = [f"test=part{number}" for number in range(1, 8)]
    sets = make_set("many", 0.4, folds=names)
    sets.folds["test=part7"] = [make_fold("test=part7", noise=1.5)]
    remarks = compare([sets], ["f1"])["metrics"]["f1"]["remarks"]
    assert any("test=part7: " in text and "standard deviations below" in text for text in remarks)


def test_a_unit_that_gets_worse_while_the_mean_gets_better_is_pointed_at():
    base, better = make_set("without", 0.9), make_set("norface", 0.2)
    for fold in FOLDS:
        better.folds[fold] = [make_fold(fold, noise=0.2, bad="AU12")]
        (table,) = base.folds[fold]
        clean = table["target"] == "AU12"
        table.loc[clean, "score"] = table.loc[clean, "truth"]
    found = compare([base, better], ["f1"])["metrics"]["f1"]
    assert found["tests"][0]["differences"]["mean"]["value"] > 0
    assert any(text.startswith("AU12 is worse with norface than") for text in found["remarks"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.folds.pop("test=part3"), "only the same folds can be compared"),
        (lambda one: one.folds["test=part1"].append(one.folds["test=part1"][0]), "of seeds"),
        (lambda one: setattr(one, "task", "intensity"), "task intensity, but a has au"),
        (
            lambda one: one.folds.update(
                {"test=part1": [one.folds["test=part1"][0].query("subject != 'F103'")]}
            ),
            "not the fold of a: 20 keys are missing",
        ),
        (
            lambda one: one.folds.update(
                {"test=part1": [one.folds["test=part1"][0].query("target != 'AU4'")]}
            ),
            "targets AU1, AU12, but a has AU1, AU12, AU4",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(change, message):
    other = make_set("b", 0.5)
    change(other)
    with pytest.raises(CorpusError, match=message) as caught:
        compare([make_set("a", 0.5), other])
    assert "\n" not in str(caught.value)


def test_intensities_and_emotions_have_their_own_metrics():
    found = compare([make_set("x", 0.8, task="intensity")])
    assert list(found["metrics"]) == ["icc"]
    table = tabulate(
        keys=[f"k_{i}" for i in range(4)], subjects=[""] * 4, fold="test=test",
        targets=["anger", "fear", "neutral"], truth=np.eye(3)[[0, 0, 1, 2]],
        scores=np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.9, 0.0], [0.0, 0.1, 0.9]]),
    )  # fmt: skip
    found = compare([FoldSet("x", "emotion", {"test=test": [table]})])
    rows = found["metrics"]["accuracy"]["settings"]["x"]
    assert rows["mean"]["mean"] == 0.75 and rows["mean"]["sd"] is None
    assert found["folds"] == {"test=test": {"frames": 4, "persons": 4}}


def test_the_verb_prints_folds_tests_and_the_papers_row_and_writes_a_page(tmp_path, capsys):
    root = write_crossval(tmp_path / "runs" / "cv", {"without": 0.7, "norface": 0.5})
    page, figures = tmp_path / "page.html", tmp_path / "found.json"
    words = ["compare", str(root), "--paper", "table1"]
    assert main([*words, "--html", str(page), "--json", str(figures)]) == 0
    text = capsys.readouterr().out
    assert "bp4d, au: 3 folds, 600 frames of 30 persons" in text
    assert text.index("without: f1 in %") < text.index("norface: f1 in %")
    assert re.search(r"norface - without +points", text)
    found = json.loads(figures.read_text())
    assert list(found["settings"]) == ["without", "norface"]
    assert list(found["metrics"]) == ["f1", "auc", "accuracy"]
    row = next(line for line in text.splitlines() if line.startswith("AU12"))
    mean = found["metrics"]["f1"]["settings"]["without"]["AU12"]["mean"]
    assert row.split()[-2:] == ["90.7", f"{100 * mean - 90.7:+.1f}"]
    assert "paper: Norface (Ours), table1, bp4d" in text
    html = page.read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", html)
    assert f"{100 * mean:.1f}" in html and "norface - without" in html


def test_settings_of_two_cross_validations_are_told_apart_and_the_baseline_is_chosen(
    tmp_path, capsys
):
    for name, noise in (("a", 0.6), ("b", 0.5)):
        write_crossval(tmp_path / name, {"norface": noise})
    paths = [str(tmp_path / name) for name in ("a", "b")]
    last = f"{tmp_path}/b/norface"
    assert main(["compare", *paths, "--baseline", last]) == 0
    assert f"{tmp_path}/a/norface - {last}" in capsys.readouterr().out
    assert main(["compare", paths[0], f"{paths[1]}/norface/seed0"]) == 0
    assert main(["compare", paths[0], "--only", "moe"]) == 2
    assert "no setting 'moe'; there are norface" in capsys.readouterr().err


def test_mistakes_at_the_command_line_are_one_line(tmp_path, capsys):
    root = write_crossval(tmp_path / "cv", {"norface": 0.5}, corpus="mine")

    def refuse(*words: str) -> str:
        assert main(["compare", *words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert "give a RUN folder, or --mlflow" in refuse()
    assert "no such file or folder" in refuse(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "no predictions.parquet below it" in refuse(str(tmp_path / "empty"))
    assert "has f1, auc, accuracy" in refuse(str(root), "--metric", "icc")
    assert "no numbers for 'mine' there, but for bp4d, bp4dplus" in refuse(
        str(root), "--paper", "table1"
    )
    shutil.rmtree(root / "norface" / "seed0" / "test=part2")
    other = write_crossval(tmp_path / "other", {"norface": 0.5}, corpus="mine")
    assert "only the same folds can be compared" in refuse(str(other), str(root))
