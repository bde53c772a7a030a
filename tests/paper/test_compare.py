"""A table from runs to files: on a tiny corpus, under its own name, beside the paper's numbers."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import f1_score
from small_cla import CLASSIFIER

from norface.cli.main import main

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus, write_normalized


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A tiny corpus under BP4D's name, its normalized set and a config of `norface paper`."""
    folder = tmp_path_factory.mktemp("paper")
    shards = write_corpus(folder / "shards", corpus="bp4d")
    write_normalized(shards, folder / "normalized")
    (folder / "cla.yaml").write_text(yaml.safe_dump({"cla": CLASSIFIER}))
    place = {
        "shards": [str(shards)],
        "sets": {"norface": [str(folder / "normalized")]},
        "config": str(folder / "cla.yaml"),
    }
    config = {
        "root": str(folder / "runs"),
        "out": str(folder / "out"),
        "configs": str(Path(__file__).parents[2] / "configs"),
        "experiments": {"bp4d": place},
        "tracking": {"mlflow": False},
    }
    (folder / "paper.yaml").write_text(yaml.safe_dump(config))
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_shows_ours_beside_the_papers_and_says_what_was_compared(workplace, capsys):
    config = ["-c", str(workplace / "paper.yaml")]
    assert main(["paper", "table7", *config]) == 0
    out = workplace / "out"
    assert {path.name for path in out.iterdir()} == {
        f"table7.{e}" for e in ("md", "csv", "tex", "png")
    }
    records = read_csv(out / "table7.csv")
    ours = {r["row"]: r for r in records if r["experiment"] == "bp4d"}
    assert [ours[row]["paper"] for row in ("w/o Idn", "w / Idn")] == ["67.2", "69.3"]
    # The oracle: scikit-learn over the predictions that lie in the run folders.
    for row, setting in (("w/o Idn", "without"), ("w / Idn", "norface")):
        paths = sorted((workplace / "runs" / "paper" / "bp4d" / setting).rglob("*.parquet"))
        assert len(paths) == 3
        means = []
        for path in paths:
            table = pd.read_parquet(path)
            each = [
                f1_score(one["truth"], one["score"] >= 0.5, zero_division=0)
                for _, one in table.groupby("target")
            ]
            means.append(np.mean(each))
        assert float(ours[row]["ours"]) == pytest.approx(100 * np.mean(means), abs=1e-4)
    text = (out / "table7.md").read_text()
    assert "| w/o Idn | 67.2 |" in text
    assert "protocol: strict (epoch chosen on validation subjects)" in text
    assert "72 pictures of 9 persons" in text
    assert "generator truth (rendered true faces: a ceiling, no F_nor)" in text
    assert "not measured: no data given (experiments.rafdb.shards=[...])" in text
    assert "synthetic" not in text
    assert r"w/o Idn & 67.2 &" in (out / "table7.tex").read_text()


def test_tables_share_their_runs_and_say_what_is_not_there(workplace, capsys):
    config = ["-c", str(workplace / "paper.yaml")]
    assert main(["paper", "table7", *config]) == 0
    runs = workplace / "runs" / "paper" / "bp4d"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.parquet")}
    assert main(["paper", "table9", *config, "train=false"]) == 0
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*.parquet")} == before
    text = (workplace / "out" / "table9.md").read_text()
    assert "w/ E_exp & E_eye: not run, no features (experiments.bp4d.features)" in text
    assert main(["paper", "table12", *config, "train=false"]) == 0
    text = (workplace / "out" / "table12.md").read_text()
    assert "w/o L_imp: not run, 3 folds are not trained, first without_imp/seed0/" in text


def test_a_wide_table_has_our_column_beside_the_papers(workplace):
    assert main(["paper", "table1", "-c", str(workplace / "paper.yaml")]) == 0
    lines = (workplace / "out" / "table1.md").read_text().splitlines()
    header = next(line for line in lines if "LP-Net" in line)
    assert header.endswith("| Norface (Ours) (paper) | this code |")
    row = next(line for line in lines if line.startswith("| AU12 |"))
    assert row.split(" | ")[-2] == "90.7"
    # A unit that this corpus does not code has no number of ours.
    assert next(line for line in lines if line.startswith("| AU24 |")).endswith("| 61.8 | - |")


def test_an_experiment_that_the_paper_has_not_is_refused(workplace, capsys):
    words = ["paper", "table7", "-c", str(workplace / "paper.yaml")]
    assert main([*words, "experiments.bp4.shards=[x]"]) == 2
    assert "the paper has no 'bp4'; there are: bp4d, bp4dplus, disfa" in capsys.readouterr().err
    assert main(["paper", "table7", "experiments.bp4d.shards=[]"]) == 2
    assert main(["paper", "fig2", "-c", str(workplace / "paper.yaml")]) == 2
    assert "'fig2' is not reproduced; there are: table1" in capsys.readouterr().err


def test_pictures_of_faces_and_routers_are_drawn(workplace):
    from norface.images import read_photo

    for name in ("fig3", "fig8"):
        assert main(["paper", name, "-c", str(workplace / "paper.yaml")]) == 0
    faces = read_photo(workplace / "out" / "fig3-bp4d.png")
    # Eight persons across; originals above their normalized faces.
    assert faces.shape[1] > 8 * 16 and faces.shape[0] > 2 * 16
    assert (workplace / "out" / "fig8-bp4d.png").stat().st_size > 1000
