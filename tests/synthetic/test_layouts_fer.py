"""The rehearsal layouts of AffectNet and RAF-DB: a right reader finds what the writer says."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from norface.cli.main import main
from norface.data.corpora.base import open_corpus
from norface.data.labels import EMOTIONS
from norface.errors import ConfigError, CorpusError
from norface.images import read_photo
from norface.synthetic.layouts.base import LayoutSettings, write_layout

SMALL = LayoutSettings(subjects=2, frames=8, side=64)
READ_BY = {
    "affectnet": ("affectnet", []),
    "affectnet-npy": ("affectnet", []),
    "affectnet-folders": ("affectnet", []),
    "rafdb": ("rafdb", []),
    "rafdb-original": ("rafdb", ["pictures=original"]),
}


def bare(records):
    return sorted((dataclasses.replace(one, image=None) for one in records), key=lambda r: r.key)


@pytest.mark.parametrize("layout", READ_BY)
def test_the_reader_finds_what_the_layout_says_it_wrote(layout, tmp_path):
    expected = write_layout(layout, tmp_path / "corpus", SMALL)
    corpus, options = READ_BY[layout]
    found = list(open_corpus(corpus, tmp_path / "corpus", options).read())
    assert bare(found) == bare(expected)
    assert all(isinstance(one.image, Path) and one.image.is_file() for one in found)
    # 16 faces; those of contempt are no samples of the seven classes.
    assert len(found) == (16 if corpus == "rafdb" else 14)
    assert Counter(one.split for one in expected)["test"] in (3, 4)


def test_over_the_turns_both_parts_meet_every_emotion(tmp_path):
    settings = LayoutSettings(subjects=1, frames=32, side=64)
    expected = write_layout("rafdb", tmp_path / "rafdb", settings)
    for split in ("train", "test"):
        seen = {one.emotion for one in expected if one.split == split}
        assert seen == set(EMOTIONS) - {"contempt"}


def test_the_box_is_around_the_labelled_face_and_not_around_the_larger_one(tmp_path):
    write_layout("affectnet", tmp_path / "corpus", SMALL)
    rows = []
    with open(tmp_path / "corpus" / "training.csv", newline="") as file:
        rows += [row for row in csv.DictReader(file) if int(row["expression"]) < 8]
    # The last row is the one whose picture is missing.
    for row in rows[:-1]:
        left, top, width, height = (int(row[name]) for name in list(row)[1:5])
        points = np.array(row["facial_landmarks"].split(";"), float).reshape(68, 2)
        assert points[:, 0].min() >= left and points[:, 0].max() <= left + width + 1
        assert points[:, 1].min() >= top and points[:, 1].max() <= top + height + 1
        # The bystander fills the right half, from 1.5 faces on.
        assert left + width <= 1.5 * 64


def test_original_photographs_are_larger_than_the_aligned_pictures(tmp_path):
    write_layout("rafdb-original", tmp_path / "rafdb", SMALL)
    for pictures, shape in (("aligned", (100, 100, 3)), ("original", (128, 192, 3))):
        found = list(open_corpus("rafdb", tmp_path / "rafdb", [f"pictures={pictures}"]).read())
        assert {read_photo(one.image).shape for one in found} == {shape}


def test_the_same_settings_give_the_same_bytes_and_another_seed_other_ones(tmp_path):
    def read(name, seed):
        settings = LayoutSettings(subjects=1, frames=4, side=64, seed=seed)
        write_layout("affectnet-npy", tmp_path / name, settings)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        return [path.read_bytes() for path in files]

    assert read("one", 0) == read("two", 0) != read("three", 1)


def test_an_unknown_layout_and_a_full_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="layout 'afectnet' is unknown; there are: .*affectnet"):
        write_layout("afectnet", tmp_path / "x", SMALL)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("a")
    with pytest.raises(CorpusError, match="is not empty"):
        write_layout("rafdb", tmp_path / "full", SMALL)


def test_the_command_line_writes_a_layout(tmp_path, capsys):
    words = ["--layout", "rafdb", "--subjects", "1", "--frames", "4", "--side", "64"]
    assert main(["synth", str(tmp_path / "rafdb"), *words]) == 0
    assert "4 labelled faces in the layout of rafdb" in capsys.readouterr().out
