"""`norface export`: a release that other programs, and our own reader, read again."""

from __future__ import annotations

import hashlib
import subprocess

import numpy as np
import pandas as pd
import pytest

from norface.cli.main import main
from norface.data.corpora.base import open_corpus
from norface.data.normalized import NormalizedSet, write_set
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, ShardWriter
from norface.images import encode_jpeg

LICENCE = "For research on rehearsals only."


def make_records():
    """Seven faces with labels of every kind, some of them unknown; two corpora with one name."""
    rng = np.random.default_rng(0)
    labels = [
        {"presence": {12: 1, 4: 0}, "intensity": {12: 3.5}, "emotion": "happiness"},
        {"presence": {12: 0}, "split": "test"},
        {"intensity": {1: 0.0, 26: 5.0}, "emotion": "fear", "split": "train"},
        {},
        {"emotion": "neutral"},
        {"presence": {4: 1}},
        {"intensity": {1: 2.0000000298023224}},
    ]
    for number, one in enumerate(labels):
        yield FaceRecord(
            "bp4d" if number < 4 else "bp4dplus", f"F00{number % 2 + 1}", "T1", number * 1000,
            encode_jpeg(rng.integers(0, 256, (16, 16, 3), np.uint8)), **one,
        )  # fmt: skip


@pytest.fixture
def shards(tmp_path):
    with ShardWriter(tmp_path / "shards", side=16, samples_per_shard=3) as writer:
        for record in make_records():
            writer.write(record)
    return tmp_path / "shards"


def export(shards, out, *words):
    return main(["export", str(shards), str(out), *(words or ("--licence", LICENCE))])


def test_exported_pictures_and_labels_are_read_again_as_they_were(shards, tmp_path, capsys):
    out = tmp_path / "out"
    assert export(shards, out) == 0
    assert "7 pictures" in capsys.readouterr().out
    reader = open_corpus("folder", out / "pictures", [f"labels={out / 'labels.csv'}"])
    found = {record.key: record for record in reader.read()}
    for record in make_records():
        again = found.pop(record.key)
        assert again.image.read_bytes() == record.image
        for name in ("corpus", "subject", "clip", "frame", "split", "emotion", "presence"):
            assert getattr(again, name) == getattr(record, name)
        assert again.intensity == pytest.approx(record.intensity, abs=0)
    assert found == {} and reader.problems == []


def test_the_table_is_one_that_pandas_reads_with_unknown_labels_empty(shards, tmp_path):
    export(shards, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "labels.csv")
    assert list(table.columns) == [
        *("path", "corpus", "subject", "clip", "frame", "split", "emotion"),
        *("au_4", "au_12", "intensity_1", "intensity_12", "intensity_26"),
    ]
    assert table["au_12"].tolist()[:2] == [1, 0] and table["au_12"].isna().sum() == 5
    assert table["path"][3] == "shard-000001/bp4d_F002_T1_3000.jpg"
    assert table["intensity_26"].dropna().tolist() == [5.0]


def test_every_file_is_in_the_check_sums(shards, tmp_path):
    out = tmp_path / "out"
    export(shards, out)
    lines = (out / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert listed.keys() == files - {"SHA256SUMS"} and len(listed) == 7 + 2
    assert listed["labels.csv"] == hashlib.sha256((out / "labels.csv").read_bytes()).hexdigest()
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True)
    assert done.returncode == 0


def test_the_card_says_what_is_there(shards, tmp_path):
    export(shards, tmp_path / "release1")
    card = (tmp_path / "release1" / "README.md").read_text()
    assert card.startswith("# release1\n") and LICENCE in card
    for line in (
        "Aligned faces of bp4d, bp4dplus, with labels",
        "7 pictures, JPEG of 16x16 pixels",
        "- 2 subjects of bp4d\n", "- 2 subjects of bp4dplus\n",
        "- 1 pictures of the part train", "- 1 pictures of the part test",
        "| happiness | 1 |", "| AU12 | 2 | 1 | 0.500 |", "| AU26 | 1 | 1 | 1.000 |",
        f"sha256 {ShardIndex.open(shards).digest}",
    ):  # fmt: skip
        assert line in card
    assert "target:" not in card and "part \n" not in card


@pytest.mark.parametrize(
    ("trained_on", "said"),
    [(None, "not known"), ([], "nobody"), ([("bp4d", "F001"), ("bp4d", "F002")], "2 persons")],
)
def test_the_card_of_a_normalized_set_names_target_and_generator(
    shards, tmp_path, trained_on, said
):
    about = {"target": "bp4d_F001_T1_0", "generator": "0123456789ab", "source": "5" * 64}
    write_set(shards, NormalizedSet(**about, trained_on=trained_on, side=16))
    export(shards, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Normalized faces of" in card
    for line in (
        "- target: bp4d_F001_T1_0\n", "- generator: 0123456789ab\n", f"trained on: {said}\n",
        f"sha256 {'5' * 64}", "target=bp4d_F001_T1_0 shards=SHARDS_OF_THE_ORIGINALS",
    ):  # fmt: skip
        assert line in card


def test_an_exported_set_comes_back_as_the_same_set(tmp_path):
    records = [record for record in make_records() if record.corpus == "bp4d"]
    with ShardWriter(tmp_path / "shards", side=16, samples_per_shard=3) as writer:
        for record in records:
            writer.write(record)
    export(tmp_path / "shards", tmp_path / "out")
    words = ["prepare", "normalized", "bp4d", str(tmp_path / "out" / "pictures"),
             str(tmp_path / "sets"), "target=t", f"shards={tmp_path / 'shards'}"]  # fmt: skip
    assert main(words) == 0
    [folder] = (tmp_path / "sets" / "t").iterdir()
    for name in ("shard-000000.tar", "shard-000001.tar"):
        assert (folder / name).read_bytes() == (tmp_path / "shards" / name).read_bytes()


def test_without_a_licence_nothing_is_exported(shards, tmp_path, capsys):
    for words in (["--licence", " "], ["--licence="]):
        assert export(shards, tmp_path / "out", *words) == 2
        assert "--licence: is empty; say under which terms" in capsys.readouterr().err
    assert main(["export", str(shards), str(tmp_path / "out")]) == 2
    assert "--licence TEXT is needed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_refused_and_left_alone(shards, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    assert export(shards, out) == 0
    before = sorted(out.rglob("*"))
    assert export(shards, out) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "is not empty; choose another folder" in error
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize("damage", ["head", "tables"])
def test_damaged_shards_leave_nothing_behind(shards, tmp_path, capsys, damage):
    index = ShardIndex.open(shards)
    row, image = index.table.iloc[5], index.read_record(5).image
    # Without its tables a JPEG has a sound header and its end, and cannot be decoded.
    at = 0 if damage == "head" else image.index(b"\xff\xc4") + 2
    with open(shards / row["shard"], "r+b") as file:
        file.seek(row["image_offset"] + at)
        file.write(b"no picture here")
    assert export(shards, tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "shard-000001.tar: bp4dplus_F002_T1_5000: the picture is not a readable JPEG" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shards"]


def test_no_shards_are_one_line(tmp_path, capsys):
    assert export(tmp_path / "gone", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no shards in this folder" in error
