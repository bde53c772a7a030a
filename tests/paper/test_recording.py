"""A table says what its runs say: their configs, crossval.json and MLflow's parent run agree."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from small_cla import CLASSIFIER

from norface.cli.main import main
from norface.config import load_config
from norface.data.folds import make_folds
from norface.data.shards import ShardIndex
from norface.paper.config import PaperConfig
from norface.paper.protocol import describe_runs, name_protocol
from norface.paper.recording import bring_runs
from norface.tracking import read_facts
from norface.training.stages.cla_config import ClaConfig

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus, write_normalized

GENERATORS = {f"test=part{number}": f"{number:012x}" for number in (1, 2, 3)}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A tiny corpus whose strict sets are of one generator a fold: normalized/FOLD/TARGET/HASH."""
    folder = tmp_path_factory.mktemp("recording")
    shards = write_corpus(folder / "shards", corpus="bp4d")
    persons = ShardIndex.open(shards).persons
    for fold in make_folds(persons, parts=3, seed=0, validation_share=0.15):
        write_normalized(
            shards, folder / "normalized" / fold.name / "bp4d_T_0" / GENERATORS[fold.name],
            generator=GENERATORS[fold.name], trained_on=[*fold.train, *fold.validation],
        )  # fmt: skip
    (folder / "cla.yaml").write_text(yaml.safe_dump({"cla": CLASSIFIER}))
    place = {
        "shards": [str(shards)],
        "sets": {
            "norface": [str(folder / "normalized" / "{fold}" / "*" / "*")],
            "without_eye": [str(folder / "nowhere")],
        },
        "config": str(folder / "cla.yaml"),
    }
    config = {
        "root": str(folder / "runs"),
        "out": str(folder / "out"),
        "configs": str(Path(__file__).parents[2] / "configs"),
        "experiments": {"bp4d": place},
        "stand_in": {"enabled": False},
    }
    (folder / "paper.yaml").write_text(yaml.safe_dump(config))
    assert main(["paper", "table7", "-c", str(folder / "paper.yaml")]) == 0
    return folder


def read_ours(workplace: Path, name: str) -> dict[str, float]:
    with open(workplace / "out" / f"{name}.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["experiment"] == "bp4d"]
    return {row["setting"]: float(row["ours"]) for row in rows if row["ours"]}


def test_sets_of_one_generator_a_fold_are_trained_on_and_named(workplace):
    text = (workplace / "out" / "table7.md").read_text()
    named = ", ".join(f"{generator} ({fold})" for fold, generator in GENERATORS.items())
    assert f"set of norface: K = 1, generator {named}\n" in text


def test_a_set_that_a_table_does_not_use_may_be_absent_and_one_it_uses_may_not(workplace, capsys):
    assert "without_eye" not in (workplace / "out" / "table7.md").read_text()
    assert main(["paper", "table10", "-c", str(workplace / "paper.yaml")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{workplace / 'nowhere'} is no folder" in error
    assert not (workplace / "runs/paper/bp4d/without_eye").exists()


def test_table_crossval_json_and_mlflow_have_the_same_numbers(workplace):
    import mlflow

    folder = workplace / "runs" / "paper" / "bp4d"
    recorded = json.loads((folder / "crossval.json").read_text())
    client = mlflow.MlflowClient(f"sqlite:///{workplace / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("paper").experiment_id
    own_id = read_facts(folder)["id"]
    parent = client.search_runs([experiment], f"tags.`norface.run` = '{own_id}'")[0]
    ours = read_ours(workplace, "table7")
    assert list(ours) == ["without", "norface"]
    for setting, value in ours.items():
        summary = recorded["settings"][setting]
        assert value == pytest.approx(100 * summary["mean"]["value"], abs=1e-9)
        assert parent.data.metrics[f"{setting}/f1"] == summary["mean"]["value"]
        assert parent.data.metrics[f"{setting}/f1/AU12"] == summary["targets"]["AU12"]["value"]
        assert parent.data.metrics[f"{setting}/auc/AU1"] == summary["other_targets"]["auc"]["AU1"]
        means = [fold["mean"] for fold in summary["folds"].values()]
        assert value == pytest.approx(100 * sum(means) / 3, abs=1e-3)
    below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    assert len(client.search_runs([experiment], below)) == 6
    assert "norface - without" in recorded["differences"]


def test_a_unit_that_never_occurs_in_a_fold_is_said_below_the_table(workplace):
    config = load_config(PaperConfig, workplace / "paper.yaml", ["train=false"])
    runs = bring_runs(config, "bp4d", config.experiments["bp4d"], ["without", "norface"])
    told = "never present among the tested, so F1 is 0 there"
    assert told not in describe_runs(runs.crossval, runs.record)
    for one in runs.record["settings"].values():
        one["never_present"] = {"test=part2": ["AU1", "AU12"]}
    assert describe_runs(runs.crossval, runs.record)[told] == "AU1, AU12 (test=part2)"


def test_naming_the_corpus_of_runs_that_are_there_trains_none_again(workplace):
    runs = workplace / "runs/paper/bp4d"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.parquet")}
    words = ["-c", str(workplace / "paper.yaml"), "experiments.bp4d.cla={data: {corpora: [bp4d]}}"]
    assert main(["paper", "table7", *words]) == 0
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*.parquet")} == before


@pytest.mark.parametrize("train", ["true", "false"])
def test_runs_of_another_config_are_refused(workplace, capsys, train):
    words = ["paper", "table7", "-c", str(workplace / "paper.yaml"), f"train={train}"]
    for change, told in (
        ("experiments.bp4d.cla={epochs: 99}", "epochs was 1, is 99 now"),
        ("experiments.bp4d.cla={data: {protocol: paper}}", "data.protocol was 'strict'"),
    ):
        assert main([*words, change]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and told in error and "belongs to another config" in error


def test_more_tables_add_to_one_record_and_other_runs_stay_out_of_it(workplace):
    config = ["-c", str(workplace / "paper.yaml"), "tracking.mlflow=false", "train=false"]
    runs = workplace / "runs" / "paper" / "bp4d"
    before = (runs / "crossval.json").read_text()
    # Mixup's folds by another config than the others': no table shows them.
    shutil.copytree(runs / "without", runs / "mixup")
    try:
        assert main(["paper", "table12", *config]) == 0
        assert (runs / "crossval.json").read_text() == before
        assert main(["paper", "table8", *config]) == 2
    finally:
        shutil.rmtree(runs / "mixup")
    assert list(read_ours(workplace, "table12")) == ["norface"]


def test_without_validation_subjects_no_epoch_is_said_to_be_chosen():
    name = lambda *words: name_protocol(load_config(ClaConfig, None, ["data.shards=[x]", *words]))
    assert name().startswith("strict (epoch chosen on validation subjects, who are not trained")
    told = "strict (last epoch, no validation subjects; no set"
    assert name("data.validation_share=0").startswith(told)
