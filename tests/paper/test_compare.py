"""A table from runs to files: on a tiny corpus, under its own name, beside the paper's numbers."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import f1_score
from small_cla import CLASSIFIER

from norface.cli.main import main
from norface.config import load_config
from norface.data.shards import ShardIndex
from norface.evaluation.crossval_config import FoldTask
from norface.evaluation.statistics import compare_settings
from norface.evaluation.summary import sum_folds, summarize
from norface.paper.config import PaperConfig
from norface.paper.pictures import NothingToDraw
from norface.paper.published import MEAN
from norface.paper.routers import draw_fig8, draw_routing

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus, write_normalized

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A tiny corpus under BP4D's name, its normalized set and a config of `norface paper`."""
    folder = tmp_path_factory.mktemp("paper")
    shards = write_corpus(folder / "shards", corpus="bp4d")
    write_normalized(shards, folder / "normalized")
    write_normalized(shards, folder / "without_eye", noise=60, generator="0123456789ab")
    (folder / "cla.yaml").write_text(yaml.safe_dump({"cla": CLASSIFIER}))
    place = {
        "shards": [str(shards)],
        "sets": {
            "norface": [str(folder / "normalized")],
            "without_eye": [str(folder / "without_eye")],
        },
        "config": str(folder / "cla.yaml"),
    }
    config = {
        "root": str(folder / "runs"),
        "out": str(folder / "out"),
        "configs": str(CONFIGS),
        "experiments": {"bp4d": place},
        "stand_in": {"enabled": False},
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
    assert "| w / Idn [rendered true faces, no F_nor] | 69.3 |" in text
    assert "protocol: strict (epoch chosen on validation subjects, who are not trained on; " in text
    assert "- corpus: bp4d\n- measured: AU1, AU12\n" in text
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
    few = "Avg. of 2 of the paper's 12 units"
    assert header.endswith(f"| this code [rendered true faces, no F_nor; {few}] |")
    assert "| Norface (Ours) (paper) |" in header
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


def test_routers_of_every_seed_are_drawn_and_none_averaged(workplace):
    from norface.images import read_photo

    config = ["-c", str(workplace / "paper.yaml")]
    heights = []
    for seeds in ("seeds=[0]", "seeds=[0, 1]"):
        assert main(["paper", "fig8", *config, seeds, "name=seeds"]) == 0
        heights.append(read_photo(workplace / "out" / "fig8-bp4d.png").shape[0])
    assert heights[1] > 1.5 * heights[0]
    gates = np.array([[0.75, 0.25], [0.5, 0.5]])
    found = {
        FoldTask("norface", seed, fold): (["AU1", "AU12"], gates + seed / 10)
        for seed in (0, 3) for fold in ("test=part1", "test=part2")
    }  # fmt: skip
    figure = draw_routing(found, "bp4d")
    names = [axes.get_title() for axes in figure.axes]
    assert names == [f"test=part{part}, seed {seed}" for seed in (0, 3) for part in (1, 2)]
    shown = [axes.images[0].get_array() for axes in figure.axes]
    np.testing.assert_allclose(shown[0], gates.T)
    np.testing.assert_allclose(shown[3], gates.T + 0.3)
    assert "neither folds nor seeds are averaged" in figure.get_suptitle()


def test_all_leaves_out_routers_that_nobody_trained(workplace, capsys):
    words = ["paper", "fig8", "-c", str(workplace / "paper.yaml"), "experiments.bp4d.sets={}"]
    assert main(words) == 2
    assert "fig8: bp4d has no normalized set" in capsys.readouterr().err
    with pytest.raises(NothingToDraw):
        draw_fig8(load_config(PaperConfig, workplace / "paper.yaml", words[4:]))


def test_settings_are_compared_person_by_person(workplace):
    assert main(["paper", "table7", "-c", str(workplace / "paper.yaml")]) == 0
    record = json.loads((workplace / "runs/paper/bp4d/crossval.json").read_text())
    told = {name: 100 * v for name, v in record["differences"]["norface - without"].items()}
    rows = {r["row"]: r for r in read_csv(workplace / "out" / "table7.csv") if r["ours"]}
    row = rows["w/o Idn"]
    found = [float(row[f"norface_minus{part}"]) for part in ("", "_low", "_high")]
    assert found == pytest.approx([told["value"], told["low"], told["high"]], abs=1e-4)
    assert rows["w / Idn"]["norface_minus"] == ""
    digits = "{:+.1f}, 95 % by persons {:+.1f} to {:+.1f} (paired)".format(*found)
    text = (workplace / "out" / "table7.md").read_text()
    assert f"- w / Idn minus w/o Idn, this code: {digits}\n" in text


def test_means_over_some_units_have_their_own_intervals(workplace):
    """Table 10 averages over units around the eyes; of those the corpus here has AU1."""
    assert main(["paper", "table10", "-c", str(workplace / "paper.yaml")]) == 0
    rows = {r["row"]: r for r in read_csv(workplace / "out" / "table10.csv") if r["column"] == MEAN}
    folds: dict[str, dict] = {}
    for setting in ("norface", "without_eye"):
        for path in sorted((workplace / "runs/paper/bp4d" / setting).rglob("*.parquet")):
            table = pd.read_parquet(path)
            of_unit = [table[table["target"] == "AU1"].reset_index(drop=True)]
            folds.setdefault(setting, {})[path.parent.name] = of_unit
    for row, setting in (("w/ L_exp", "without_eye"), ("w/ L_exp & L_eye", "norface")):
        mean = summarize(folds[setting], "au")["mean"]
        found = [float(rows[row][name]) for name in ("ours", "low", "high")]
        wanted = [100 * mean[name] for name in ("value", "low", "high")]
        assert found == pytest.approx(wanted, abs=1e-4)
    gain = compare_settings(*(sum_folds(folds[n], "au") for n in ("without_eye", "norface")), "f1")
    assert float(rows["w/ L_exp"]["norface_minus_low"]) == pytest.approx(100 * gain.low, abs=1e-4)
    assert rows["w/ L_exp"]["remark"] == "Avg. of 1 of the paper's 5 units"


def test_a_row_that_changes_nothing_shows_the_run_that_it_is(workplace):
    config = ["-c", str(workplace / "paper.yaml")]
    assert main(["paper", "table7", *config]) == 0
    assert main(["paper", "table8", *config, "train=false"]) == 0
    why = "same run as w/o Idn: model.extractor_weights=null anyway"
    text = (workplace / "out" / "table8.md").read_text()
    record = json.loads((workplace / "runs/paper/bp4d/crossval.json").read_text())
    value = 100 * record["settings"]["without"]["mean"]["value"]
    assert f"| Random init [{why}] | 66.4 | {value:.1f} | " in text
    assert "Random init: not run" not in text and "Mixup [90]: not run" in text
    assert not (workplace / "runs/paper/bp4d/random_init").exists()


def test_a_plan_says_what_stands_in_for_what_is_not_given(workplace, capsys):
    words = ["--dry-run", "-c", str(workplace / "paper.yaml"), "stand_in.enabled=true"]
    plans = {}
    for name in ("table5", "table6", "table7", "table10"):
        assert main(["paper", name, *words]) == 0
        plans[name] = capsys.readouterr().out.splitlines()
    assert plans["table5"] == ["table5: synthetic-to-webcam: norface"]
    assert plans["table6"] == ["table6: synthetic-to-webcam-emotion: norface"]
    # BP4D is given, the other corpora of Table 7 are not; all of Table 10 is BP4D.
    assert plans["table7"][:2] == ["table7: bp4d: without", "table7: bp4d: norface"]
    assert {line.split(": ")[1] for line in plans["table7"][2:]} == {
        "synthetic",
        "synthetic-emotion",
    }
    assert {line.split(": ")[1] for line in plans["table10"]} == {"bp4d"}


def test_both_protocols_stand_side_by_side_and_say_what_each_may_see(workplace, tmp_path):
    """The paper's sets: of a generator that saw everybody, which the strict protocol refuses."""
    config = ["-c", str(workplace / "paper.yaml"), f"out={tmp_path}"]
    persons = ShardIndex.open(workplace / "shards").persons
    saw_all = write_normalized(
        workplace / "shards", tmp_path / "all", generator="a11a11a11a11", trained_on=persons
    )
    words = [f"experiments.bp4d.paper_sets.norface=[{saw_all}]"]
    assert main(["paper", "table7", *config]) == 0
    runs = workplace / "runs/paper/bp4d"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.parquet")}
    assert main(["paper", "table7", *config, *words, "protocols=[strict, paper]"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = [row for row in read_csv(tmp_path / "table7.csv") if row["experiment"] == "bp4d"]
    assert [(row["row"], row["setting"], row["protocol"]) for row in rows] == [
        ("w/o Idn", "without", "strict"),
        ("w/o Idn", "without.paper", "paper"),
        ("w / Idn", "norface", "strict"),
        ("w / Idn", "norface.paper", "paper"),
    ]
    for row in rows:
        paths = sorted((runs / row["setting"]).rglob("*.parquet"))
        each = [
            f1_score(one["truth"], one["score"] >= 0.5, zero_division=0)
            for path in paths
            for _, one in pd.read_parquet(path).groupby("target")
        ]
        assert len(each) == 6 and float(row["ours"]) == pytest.approx(100 * np.mean(each), abs=1e-4)
        used = yaml.safe_load((paths[0].parent / "config.yaml").read_text())["data"]
        assert used.get("protocol", "strict") == row["protocol"]
    # Each is compared with the w/ Idn of its own protocol.
    for one, best in ((rows[0], rows[2]), (rows[1], rows[3])):
        gain = float(best["ours"]) - float(one["ours"])
        assert float(one["norface_minus"]) == pytest.approx(gain, abs=1e-4)
    text = (tmp_path / "table7.md").read_text()
    ours = "| this code, strict protocol | 95 % | difference "
    assert f"|  | paper {ours}{ours.replace('strict', 'paper')}|" in text
    assert "who are not trained on; no set, target or E_f that saw" in text
    assert (
        "F_nor, the target and E_f may have seen the fold's test subjects) [without.paper," in text
    )
    saw = "test subjects that the sets' generators saw"
    assert f"- {saw}: 0 of 9 [norface]; 9 of 9 [norface.paper]\n" in text
    # Pictures that were made again since are not those that were trained on.
    card = (saw_all / "set.json").read_text()
    (saw_all / "set.json").write_text(card.replace("a11a11a11a11", "b22b22b22b22"))
    again = [*words, "protocols=[strict, paper]", "train=false"]
    assert main(["paper", "table7", *config, *again]) == 0
    text = (tmp_path / "table7.md").read_text()
    assert "not known (the sets have changed since the runs) [norface.paper]" in text
    assert "generator a11a11a11a11" in text and "b22" not in text
    (saw_all / "set.json").write_text(card)
    assert main(["paper", "table1", *config, *words, "protocols=[strict, paper]"]) == 0
    header = (tmp_path / "table1.md").read_text().splitlines()[4]
    assert "| this code, strict protocol [rendered true" in header
    assert header.index("strict protocol") < header.index("| this code, paper protocol")


def test_a_classifier_of_another_task_is_no_row_of_the_table(workplace, capsys):
    """Accuracy is a metric of action units too: it must not stand for that of emotions."""
    shards = write_corpus(workplace / "rafdb", corpus="rafdb")
    place = f"{{shards: [{shards}], config: {workplace / 'cla.yaml'}}}"
    words = ["paper", "table4", "-c", str(workplace / "paper.yaml"), f"experiments.rafdb={place}"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "experiments.rafdb: its classifier has task=au, but the table's numbers" in error
    assert error.count("\n") == 1 and not (workplace / "runs/paper/rafdb").exists()


def test_wrong_values_of_an_experiment_are_told_in_a_line(workplace, tmp_path, capsys):
    words = ["paper", "table7", "-c", str(workplace / "paper.yaml")]
    (tmp_path / "empty.yaml").write_text("name: none\n")
    for change, told in (
        ("experiments.bp4d.cla={epoch: 9}", "unknown key 'experiments.bp4d.cla.epoch'"),
        ("experiments.synthetic-faces={shards: [x]}", "the paper has no 'synthetic-faces'"),
        ("experiments.bp4d.paper_sets={norfcae: [x]}", "paper_sets: no row is of 'norfcae'"),
        ("protocols=[loose]", "protocols"),
        ("protocols=[]", "protocols"),
    ):
        assert main([*words, change]) == 2, change
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1, error
    # A config that says nothing of the classifier leaves it as it is by default.
    plain = [*words, f"experiments.bp4d.config={tmp_path / 'empty.yaml'}", "name=plain"]
    assert main([*plain, "train=false", f"out={tmp_path}"]) == 0
