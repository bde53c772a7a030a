"""No corpus is shown under another one's name, neither in a table nor by a corpus's config."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from small_cla import CLASSIFIER

from norface.cli.main import main
from norface.config import load_config
from norface.data.rehearsal import SAID, Rehearsal, write_marker
from norface.evaluation.crossval_config import CrossvalConfig
from norface.paper.compare import known_experiments
from norface.paper.corpora import corpora_of
from norface.tracking import read_facts

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """Shards of three corpora, and a config of `norface paper` that trains in seconds."""
    folder = tmp_path_factory.mktemp("corpora")
    for corpus in ("bp4d", "bp4dplus", "disfa"):
        write_corpus(folder / corpus, corpus=corpus, frames=2)
    (folder / "cla.yaml").write_text(yaml.safe_dump({"cla": CLASSIFIER}))
    config = {
        "root": str(folder / "runs"),
        "out": str(folder / "out"),
        "configs": str(CONFIGS),
        "stand_in": {"enabled": False},
        "tracking": {"mlflow": False},
    }
    (folder / "paper.yaml").write_text(yaml.safe_dump(config))
    return folder


def refuse(words: list[str], capsys) -> str:
    """The one line that a command ends with."""
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize("what", [["table7"], ["table7", "--dry-run"], ["fig3"], ["fig8"]])
def test_a_table_refuses_the_shards_of_another_corpus(workplace, capsys, what):
    place = f"{{shards: [{workplace / 'disfa'}], config: {workplace / 'cla.yaml'}}}"
    words = ["paper", *what, "-c", str(workplace / "paper.yaml"), f"experiments.bp4d={place}"]
    error = refuse(words, capsys)
    assert f"experiments.bp4d.shards: {workplace / 'disfa'}: found faces of disfa" in error
    assert "expected bp4d; give the shards of that" in error
    assert not (workplace / "runs/paper/bp4d").exists()


def test_a_rehearsal_fills_no_table_and_a_cross_validation_says_what_it_is(workplace, capsys):
    shards = write_corpus(workplace / "rehearsal", corpus="disfa", subjects=6, frames=4)
    write_marker(shards, Rehearsal(layout="disfa", renderer=4))
    place = f"{{shards: [{shards}], config: {workplace / 'cla.yaml'}}}"
    words = ["paper", "table7", "-c", str(workplace / "paper.yaml"), f"experiments.disfa={place}"]
    error = refuse(words, capsys)
    assert f"experiments.disfa.shards: {shards} holds {SAID}; give the corpus's own" in error
    words = ["-c", str(workplace / "cla.yaml"), f"cla.data.shards=[{shards}]", "name=rehearsed",
             f"root={workplace / 'runs'}", "tracking.mlflow=false"]  # fmt: skip
    assert main(["crossval", *words]) == 0
    assert f"{shards}: {SAID}" in capsys.readouterr().out.splitlines()
    run = workplace / "runs/rehearsed"
    assert json.loads((run / "crossval.json").read_text())["rehearsals"] == [str(shards)]
    assert read_facts(run)["experiment"] == "disfa-rehearsal-au"


def test_more_corpora_than_the_name_says_are_refused(workplace, capsys):
    place = f"{{shards: [{workplace / 'bp4d'}, {workplace / 'disfa'}]}}"
    words = ["paper", "table1", "-c", str(workplace / "paper.yaml"), f"experiments.bp4d={place}"]
    assert "found faces of bp4d and disfa, expected bp4d;" in refuse(words, capsys)


def test_synthetic_faces_of_ones_own_stand_under_their_own_name(workplace, capsys):
    shards = write_corpus(workplace / "synthetic", frames=2)
    words = ["paper", "table7", "--dry-run", "-c", str(workplace / "paper.yaml")]
    for name in ("synthetic", "synthetic-emotion"):
        assert main([*words, f"experiments.{name}.shards=[{shards}]"]) == 0
        assert f"table7: {name}: without\n" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["{folds: corpora, train_corpora: [bp4dplus]}", "{folds: corpora}"])
def test_an_experiment_across_corpora_goes_the_way_of_its_name(workplace, capsys, way):
    place = (
        f"{{shards: [{workplace / 'bp4d'}, {workplace / 'bp4dplus'}],"
        f" config: {workplace / 'cla.yaml'}, cla: {{data: {way}}}}}"
    )
    name = "experiments.bp4d-to-bp4dplus"
    words = ["paper", "table5", "-c", str(workplace / "paper.yaml"), f"{name}={place}"]
    error = refuse(words, capsys)
    assert f"{name}: found cla.data.folds=corpora and cla.data.train_corpora=" in error
    assert "expected corpora and [bp4d], so that bp4dplus is tested" in error


def test_the_config_of_a_corpus_refuses_the_shards_of_another(workplace, capsys):
    """RAF-DB's folds are official parts, which any corpus may have: only its name tells."""
    config = str(CONFIGS / "cla" / "rafdb.yaml")
    words = ["crossval", "-c", config, "--dry-run", f"cla.data.shards=[{workplace / 'disfa'}]"]
    error = refuse(words, capsys)
    assert f"data.shards: {workplace / 'disfa'}: found faces of disfa, expected rafdb;" in error
    other = ["cla.data.corpora=null", "cla.data.folds=null", f"root={workplace / 'runs'}"]
    assert main([*words, *other]) == 0


def test_a_fold_that_is_trained_alone_is_asked_too(workplace, capsys):
    words = ["train", "cla", f"data.shards=[{workplace / 'disfa'}]", "data.corpora=[bp4d]",
             f"root={workplace / 'runs'}", "tracking.mlflow=false"]  # fmt: skip
    assert "found faces of disfa, expected bp4d;" in refuse(words, capsys)


@pytest.mark.parametrize("experiment", known_experiments())
def test_every_config_of_the_paper_names_its_corpora(experiment):
    data = load_config(CrossvalConfig, CONFIGS / "cla" / f"{experiment}.yaml").cla.data
    assert data.corpora == corpora_of(experiment)
