"""Figures 3 to 6 and 9, and Table 10, whose second F_nor is trained here."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from norface.cli.main import main
from norface.config import load_config
from norface.data.folds import make_folds
from norface.data.shards import ShardIndex
from norface.errors import CorpusError
from norface.images import read_photo, write_png
from norface.paper.config import ExperimentPlace, PaperConfig, StandInConfig
from norface.paper.faces import choose_faces, choose_keys, read_faces
from norface.paper.pictures import draw_fig5, draw_sheet
from norface.paper.stand_in import normalize_by_small
from norface.synthetic.corpus import write_corpus as write_synthetic
from norface.synthetic.corpus import write_truth

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus, write_normalized
from small_cla import CLASSIFIER

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A corpus under BP4D's name with two targets, another normalizer's pictures, two F_nor."""
    folder = tmp_path_factory.mktemp("pictures")
    shards = write_corpus(folder / "shards", corpus="bp4d", frames=4)
    for name in ("norface", "without_eye", "ID2"):
        write_normalized(shards, folder / name, noise=4 * len(name))
        write_png(folder / name / "target.png", np.full((16, 16, 3), 200, np.uint8))
    (folder / "other").mkdir()
    keys = choose_keys(ExperimentPlace(shards=[shards]))
    write_png(folder / "other" / f"{keys[0]}.png", np.full((16, 16, 3), 9, np.uint8))
    (folder / "cla.yaml").write_text(yaml.safe_dump({"cla": CLASSIFIER}))
    place = {
        "shards": [str(shards)],
        "sets": {name: [str(folder / name)] for name in ("norface", "without_eye")},
        "targets": {"ID1": [str(folder / "norface")], "ID2": [str(folder / "ID2")]},
        "others": {"PIRenderer": str(folder / "other")},
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


@pytest.mark.parametrize("name", ["fig3", "fig5", "fig6", "fig9"])
def test_faces_are_drawn_from_what_is_there(workplace, name):
    assert main(["paper", name, "-c", str(workplace / "paper.yaml")]) == 0
    assert read_photo(workplace / "out" / f"{name}-bp4d.png").std() > 20


def test_figure_6_has_a_row_more_where_there_is_a_set_without_the_expression_loss(workplace):
    words = ["paper", "fig6", "-c", str(workplace / "paper.yaml")]
    heights = []
    for out, more in (("two", []), ("three", ["without_exp"])):
        given = [f"experiments.bp4d.sets.{name}=[{workplace / 'ID2'}]" for name in more]
        assert main([*words, f"out={workplace / out}", *given]) == 0
        heights.append(len(read_photo(workplace / out / "fig6-bp4d.png")))
    # Inches a row, at 130 points an inch.
    assert heights[1] - heights[0] == pytest.approx(1.05 * 130, abs=2)


def test_faces_of_sets_of_single_folds_are_of_the_fold_that_tests_their_person(workplace):
    path = str(workplace / "paper.yaml")
    shards = workplace / "shards"
    index = ShardIndex.open(shards)
    folds = make_folds(index.persons, parts=3, seed=0, validation_share=0.15)
    for number, fold in enumerate(folds):
        folder = workplace / "strict" / fold.name / "T" / f"{number:012x}"
        write_normalized(shards, folder, noise=30 * number, generator=f"{number:012x}")
        write_png(folder / "target.png", np.full((16, 16, 3), 200, np.uint8))
    strict = f'["{workplace}/strict/{{fold}}/*/*"]'
    words = [f"experiments.bp4d.sets={{norface: {strict}, without_eye: {strict}}}",
             f"experiments.bp4d.targets={{ID1: {strict}}}"]  # fmt: skip
    config = load_config(PaperConfig, path, words)
    faces = choose_faces(config, "bp4d", config.experiments["bp4d"])
    (label, (target, *shown)), _ = faces.of(faces.place.sets)
    assert label == "norface" and target is not None and target.mean() == 200
    tested = {person: number for number, fold in enumerate(folds) for person in fold.test}
    for key, pixels in zip(faces.keys, shown, strict=True):
        number = tested[("bp4d", key.split("_")[1])]
        own = ShardIndex.open(workplace / "strict" / folds[number].name / "T" / f"{number:012x}")
        assert (pixels == own.read_pixels(own.row_of(key))).all()
    assert len(set(faces.folds)) == 3
    for name in ("fig3", "fig6", "fig9"):
        assert main(["paper", name, "-c", path, *words, f"out={workplace}/strict-out"]) == 0
        assert read_photo(workplace / "strict-out" / f"{name}-bp4d.png").std() > 20


@pytest.mark.slow
def test_every_target_identity_is_measured(workplace):
    targets = f"experiments.bp4d.targets={{ID2: [{workplace / 'ID2'}]}}"
    shards = write_corpus(workplace / "rafdb", corpus="rafdb", frames=4)
    own = write_normalized(shards, workplace / "rafdb-ID2")
    emotions = (
        f"experiments.rafdb={{shards: [{shards}], targets: {{ID2: ["
        f"{own}]}}, config: {workplace / 'cla.yaml'}, cla: {{task: emotion}}}}"
    )
    words = ["-c", str(workplace / "paper.yaml"), targets, emotions]
    assert main(["paper", "fig4", *words]) == 0
    # The figure is of action units; emotions have no F1.
    assert not (workplace / "out" / "fig4-rafdb.png").exists()
    with open(workplace / "out" / "fig4-bp4d.csv", newline="") as file:
        rows = {row["target"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["w/o Idn", "ID2"]
    assert all(0 <= float(row["mean"]) <= 100 and row["metric"] == "f1" for row in rows.values())
    assert (workplace / "runs/paper/bp4d/target-ID2/seed0/test=part1/run.json").is_file()


def test_a_figure_without_its_data_is_one_line_and_no_end_of_all(workplace, capsys):
    words = ["-c", str(workplace / "paper.yaml"), "experiments.bp4d.others={}"]
    assert main(["paper", "fig5", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "fig5: no experiment has somebody else's pictures" in error


def test_others_join_by_key_and_lack_what_they_lack(workplace):
    keys = choose_keys(ExperimentPlace(shards=[workplace / "shards"]))
    found = read_faces(workplace / "other", keys)
    assert found[0] is not None and found[0].max() == 9 and found[1:] == [None] * (len(keys) - 1)
    with pytest.raises(CorpusError, match="no picture is named by a key, such as bp4d_S"):
        read_faces(workplace, keys)
    figure = draw_sheet([("original", found), ("a", [found[0], *found])])
    assert len(figure.axes) == 1 + 2


@pytest.mark.slow
@pytest.mark.parametrize("normalizer", ["synthetic-64-ablation.yaml", "synthetic-64-paper.yaml"])
def test_small_f_nor_differ_by_the_loss_that_they_lack_alone(tmp_path, normalizer):
    config = PaperConfig(
        root=tmp_path,
        configs=CONFIGS,
        stand_in=StandInConfig(
            normalizer_images=16, normalizer_subjects=2, normalizer=Path(normalizer)
        ),
        tracking={"mlflow": False},
    )
    shards = write_synthetic(tmp_path / "few", pool="folds", subjects=2, frames=2, side=64)
    sets = normalize_by_small(config, shards, "normalized")
    assert list(sets) == ["norface", "without_eye", "without_exp"]
    runs = {name: yaml.safe_load((tmp_path / "paper" / "nor" / name / "config.yaml").read_text())
            for name in sets}  # fmt: skip
    whole = runs["norface"]
    for name, term in (("without_eye", "eye"), ("without_exp", "exp")):
        assert whole["losses"][term] and runs[name]["losses"][term] is None
        losses = {**runs[name]["losses"], term: whole["losses"][term]}
        assert {**runs[name], "losses": losses, "name": whole["name"]} == whole
    # The one person of the clip is the target of all of them.
    named = whole["target_pool"]["keys"] or whole["target_pool"]["subjects"]
    assert len(named) == 1 and named[0].startswith(("synthetic_S100000", "synthetic/S100000"))
    faces = [ShardIndex.open(one).read_pixels(0).astype(int) for one in sets.values()]
    assert faces[0].shape == (64, 64, 3)
    assert all((faces[0] != other).any() for other in faces[1:])


def test_the_user_study_stands_beside_a_measure_of_the_same_faces(tmp_path):
    """Synthetic faces: the true normalized ones keep the expression, a blank picture does not."""
    size = {"subjects": 3, "frames": 4, "side": 64}
    shards = write_synthetic(tmp_path / "shards", pool="folds", **size)
    index = ShardIndex.open(shards)
    truth = write_truth(shards, index.key_of(0), tmp_path / "normalized")
    (tmp_path / "blank").mkdir()
    for row in range(1, len(index)):
        path = tmp_path / "blank" / f"{index.key_of(row)}.png"
        write_png(path, np.full((64, 64, 3), 127, np.uint8))
    place = ExperimentPlace(
        shards=[shards],
        sets={"norface": [truth]},
        others={"PIRenderer": tmp_path / "blank", "Nobody": tmp_path / "blank"},
    )
    config = PaperConfig(configs=CONFIGS, out=tmp_path / "out", experiments={"synthetic": place})
    draw_fig5(config)
    with open(tmp_path / "out" / "fig5-synthetic.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    methods = ["Norface (Ours)", "PIRenderer [54]", "Face2Face^p [81]", "StyleHEAT [82]", "Nobody"]
    assert list(rows) == methods
    ours, other, absent = (rows[name] for name in methods[:3])
    assert (other["paper_mark"], other["paper_t"], other["df"]) == ("2.2", "21.00", "2")
    assert float(ours["distance"]) < float(other["distance"]) and float(other["t"]) > 0
    assert absent["distance"] == "" and rows["Nobody"]["distance"] == other["distance"]
    # One original has no blank picture, so it counts for nobody.
    text = (tmp_path / "out" / "fig5-synthetic.md").read_text()
    assert "measured on 11 faces of 3 persons; reader: packaged" in text
    assert "; Norface: rendered true faces, no F_nor\n" in text and "| 4.6 | 0.49 | - |" in text
