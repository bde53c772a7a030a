"""`norface evaluate normalization` on sets whose quality is known."""

import dataclasses
import json

import numpy as np
import pytest

from norface.cli.main import main
from norface.data.indexing import write_index
from norface.data.normalized import TARGET_NAME, NormalizedSet, write_set
from norface.data.shards import ShardFile, ShardIndex
from norface.evaluation.normalization_faces import sample_rows
from norface.images import encode_jpeg, read_photo, write_png
from norface.synthetic.corpus import write_corpus, write_truth

pytestmark = pytest.mark.slow
TARGET = "synthetic_S200000_seed0_0"


def write_like(source, folder, pictures, *, card, target):
    """A set with the keys of shards whose pictures are `pictures` (N, S, S, 3)."""
    index = ShardIndex.open(source)
    write_set(folder, card)
    write_png(folder / TARGET_NAME, target)
    name = str(index.table["shard"].iloc[0])
    with ShardFile(folder / name, side=index.side) as file:
        for row, pixels in enumerate(pictures):
            record = index.read_record(row)
            file.write(
                dataclasses.replace(record, image=encode_jpeg(pixels), landmarks=None, pose=None)
            )
    write_index(folder)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Originals; the true faces; a set of copies of the originals; one of the bare target."""
    root = tmp_path_factory.mktemp("study")
    source = write_corpus(root / "shards", pool="folds", subjects=6, frames=16, side=64)
    truth = write_truth(source, TARGET, root / "normalized")
    target = read_photo(truth / TARGET_NAME)
    index = ShardIndex.open(source)
    originals = [index.read_pixels(row) for row in range(len(index))]
    seen = [("synthetic", "S200002"), ("synthetic", "S900000")]
    for name, pictures, trained_on in (
        ("copy", originals, seen),
        ("bare", [target] * len(index), None),
    ):
        card = NormalizedSet(
            target=TARGET, generator=name, trained_on=trained_on, source=index.digest, side=64
        )
        write_like(source, root / name, pictures, card=card, target=target)
    return root, source, truth


def test_copies_bare_targets_and_true_faces_get_the_marks_they_deserve(world, tmp_path, capsys):
    root, source, truth = world
    words = [f"shards={source}", f"sets.copy={root / 'copy'}", f"sets.bare={root / 'bare'}",
             f"truth={truth}", "draws=200"]  # fmt: skip
    outputs = [tmp_path / f"result.{ending}" for ending in ("json", "md", "csv")]
    flags = [word for path in outputs for word in ("--out", str(path))]
    assert main(["evaluate", "normalization", *words, *flags]) == 0
    text = capsys.readouterr().out
    result = json.loads(outputs[0].read_text())
    sets = {
        name: {figure: interval["value"] for figure, interval in figures.items()}
        for name, figures in result["sets"].items()
    }
    # One of the six persons is the target, whose faces may be nearer to its mean than to the
    # picture that is aimed at; those of the other five all count.
    assert sets["copy"]["nearer_to_target"] < 0.3 < 5 / 6 <= sets["truth"]["nearer_to_target"]
    assert sets["bare"]["target_similarity"] == pytest.approx(1, abs=0.02)
    # A copy tells who it is, as the originals do; the bare target cannot.
    assert sets["copy"]["source_rank1"] > 0.8 and sets["copy"]["source_auc"] > 0.9
    assert sets["bare"]["source_rank1"] == pytest.approx(1 / 6, abs=0.02)
    assert sets["bare"]["source_auc"] == pytest.approx(0.5, abs=0.02)
    assert sets["truth"]["source_rank1"] < sets["copy"]["source_rank1"] - 0.3
    assert sets["copy"]["unit_r"] > 0.97 and sets["bare"]["unit_r"] == pytest.approx(0, abs=0.02)
    assert sets["truth"]["unit_r"] > 0.4 and sets["truth"]["label_r"] > 0.4
    assert sets["truth"]["brow_r"] > 0.5 and sets["bare"]["brow_r"] == pytest.approx(0, abs=0.02)
    assert sets["truth"]["brow_r"] != sets["truth"]["label_r"]
    assert sets["copy"]["expression_distance"] < 0.1
    assert sets["bare"]["expression_distance"] == pytest.approx(1, abs=0.05)
    assert sets["copy"]["yaw_spread_cut"] == pytest.approx(0, abs=0.05)
    assert sets["truth"]["yaw_spread_cut"] > 0.8 and sets["truth"]["background_spread_cut"] > 0.7
    assert sets["bare"]["background_spread_cut"] == pytest.approx(1, abs=0.02)
    assert sets["bare"]["error_ratio"] == pytest.approx(1, abs=0.1)
    assert "error_ratio" not in sets["truth"]
    assert sets["copy"]["fid"] < 0.01 * sets["bare"]["fid"]
    for figures in result["sets"].values():
        for interval in figures.values():
            assert interval["low"] <= interval["high"]
    tests = {one["measure"]: one for one in result["tests"]}
    # Six persons: the usual level of 5 %.
    assert tests["target_similarity"]["difference"] > 0 and tests["target_similarity"]["p"] < 0.05
    assert tests["target_similarity"]["df"] == 5
    # Persons that the generator saw are said, and what nobody knows.
    assert "copy: its generator was trained on 1 of these 6 persons" in text
    assert "bare: nobody knows on whom" in text
    assert "96 faces for 64 features" in text
    assert outputs[1].read_text().count("| + nearer to the target, %") == 1
    assert outputs[2].read_text().startswith("set,figure,value,low,high\noriginals,source_rank1,")


def test_mismatches_are_refused_in_one_line(world, tmp_path, capsys):
    root, source, truth = world
    other = write_corpus(tmp_path / "other", pool="folds", subjects=2, frames=2, side=64, seed=5)

    capsys.readouterr()

    def refuse(*words):
        assert main(["evaluate", "normalization", *map(str, words)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    error = refuse(f"shards={other}", f"sets.bare={root / 'bare'}")
    assert "sets.bare" in error and "other shards" in error
    assert "key synthetic_S200000_seed5_0 is not in it" in error
    assert "holds no set.json" in refuse(f"shards={source}", f"sets.x={source}")
    assert "targets.y" in refuse(f"shards={source}", f"sets.x={truth}", "targets.y=a.png")
    assert "column of its own" in refuse(f"shards={source}", f"sets.truth={truth}")
    assert "expected key=value" in refuse("shards")
    assert "'sets' must be set" in refuse(f"shards={source}")
    assert "must end with" in refuse(f"shards={source}", f"sets.x={truth}", "--out", "a.txt")
    (root / "bare" / TARGET_NAME).rename(root / "elsewhere.png")
    try:
        error = refuse(f"shards={source}", f"sets.bare={root / 'bare'}")
        assert "targets.bare=PICTURE" in error
    finally:
        (root / "elsewhere.png").rename(root / "bare" / TARGET_NAME)
    assert main(["evaluate", "predictions.parquet", "--out", "a.md"]) == 2


def test_samples_come_evenly_from_all_persons(world):
    index = ShardIndex.open(world[1])
    rows = sample_rows(index, 24)
    assert len(rows) == 24
    counts = np.unique(index.table["subject"].astype(str).to_numpy()[rows], return_counts=True)[1]
    assert (counts == 4).all()
    assert len(sample_rows(index, 3)) == 3
    assert len(sample_rows(index, None)) == len(index)
