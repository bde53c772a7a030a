"""Emo135 by a description: folders of classes, tables, and what a description may get wrong."""

import shutil
from pathlib import Path

import pytest

from norface.data.corpora.base import open_corpus
from norface.errors import ConfigError, CorpusError

EXAMPLE = Path(__file__).parents[2] / "configs" / "corpora" / "emo135.yaml"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def read(root, *options):
    reader = open_corpus("emo135", root, options)
    return list(reader.read()), reader.problems


def describe(root, text):
    (root / "emo135.yaml").write_text(text)


def test_the_example_reads_folders_of_classes(tmp_path):
    touch(tmp_path, "fear/01.jpg", "fear/2.png", "nostalgia/0001.jpg", "amusement/x.jpg")
    records, problems = read(tmp_path, f"description={EXAMPLE}")
    assert [(one.key, one.emotion) for one in records] == [
        ("emo135_amusement+x_amusement_0", None),
        ("emo135_fear+01_fear_0", "fear"),
        ("emo135_nostalgia+0001_nostalgia_0", None),
    ]
    assert records[1].image == tmp_path / "fear" / "01.jpg"
    assert problems == []


def test_a_description_in_the_root_is_found(tmp_path):
    touch(tmp_path, "faces/happy/1.jpg", "elsewhere/happy/2.jpg")
    describe(tmp_path, 'root: faces\nglob: "*/*"\nclasses: {happy: happiness}\n')
    records, problems = read(tmp_path)
    assert [(one.subject, one.clip, one.emotion) for one in records] == [
        ("happy+1", "happy", "happiness")
    ]
    assert problems == []


@pytest.mark.parametrize("layout", ['glob: "*/*.jpg"', "table: {file: labels.csv}"])
def test_photographs_that_the_description_does_not_lead_to_are_counted(tmp_path, layout):
    touch(
        tmp_path, "fear/1.jpg", "fear/2.png", "top.jpg", "fear/deep/3.jpg", "fear/.h.png", "a.txt"
    )
    (tmp_path / "labels.csv").write_text("path,label\nfear/1.jpg,fear\n")
    describe(tmp_path, layout + "\nclasses: {fear: fear}\n")
    reader = open_corpus("emo135", tmp_path)
    assert len(list(reader.read())) == 1 and reader.problems == []
    rule = "photographs that emo135.yaml does not lead to, first fear/2.png"
    assert reader.left_out == {rule: 3}


def test_classes_that_are_not_listed_are_left_out_and_told_once(tmp_path):
    touch(tmp_path, "fear/1.jpg", "awe/1.jpg", "awe/2.jpg", "Fear/3.jpg")
    describe(tmp_path, 'glob: "*/*.jpg"\nclasses: {fear: fear}\n')
    records, problems = read(tmp_path)
    assert [one.subject for one in records] == ["fear+1"]
    assert [what.split(", is not")[0] for _, what in problems] == [
        "the class 'Fear' of 1 pictures, first Fear/3.jpg",
        "the class 'awe' of 2 pictures, first awe/1.jpg",
    ]
    describe(tmp_path, 'glob: "*/*.jpg"\nclasses: {fear: fear}\nunlisted: unlabelled\n')
    records, problems = read(tmp_path)
    assert [one.emotion for one in records] == [None, None, None, "fear"] and problems == []


def test_other_files_and_pictures_without_a_class_are_problems(tmp_path):
    touch(tmp_path, "fear/1.jpg", "fear/readme.txt", "2.jpg")
    describe(tmp_path, 'glob: "**/*"\nclasses: {fear: fear}\n')
    records, problems = read(tmp_path)
    assert [one.subject for one in records] == ["fear+1"]
    assert [(Path(place).name, what) for place, what in problems] == [
        ("2.jpg", "lies in no folder of a class"),
        ("emo135.yaml", "is no photograph"),
        ("readme.txt", "is no photograph"),
    ]


def test_names_that_a_key_cannot_hold_stay_different(tmp_path):
    touch(tmp_path, "mixed feelings/1.jpg", "mixed_feelings/1.jpg", "mixed-feelings/1.jpg")
    touch(tmp_path, "a+b/1.jpg", "a/b+1.jpg")
    describe(tmp_path, 'glob: "*/*.jpg"\nunlisted: unlabelled\n')
    records, problems = read(tmp_path)
    assert len({one.key for one in records}) == 5 and problems == []
    # printf 'mixed feelings' | sha1sum
    assert "mixed-feelings-07283ba8" in {one.clip for one in records}


TABLE = """\
image;emotion;who;part
a/1.jpg;1;p_1;train
a/2.jpg;2;p_2;test
a/3.jpg;1;;train
a/4.jpg;1;p_1;train
../5.jpg;1;p_1;train
a/2.jpg;1;p_2;test
"""


def test_a_table_tells_classes_persons_and_parts(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "a/3.jpg")
    (tmp_path / "labels.csv").write_text(TABLE)
    describe(
        tmp_path,
        "table: {file: labels.csv, delimiter: ;, path: image, label: emotion, subject: who,"
        " split: part}\nclasses: {1: anger, 2: null}\n",
    )
    records, problems = read(tmp_path)
    assert [(one.subject, one.clip, one.emotion, one.split) for one in records] == [
        ("p-1-4a7f9dce", "1+a+1", "anger", "train"),
        ("p-2-13a8f840", "2+a+2", None, "test"),
        ("p-2-13a8f840", "1+a+2", "anger", "test"),
    ]
    assert [
        (place.rsplit(":", 1)[1], what.replace(str(tmp_path), "ROOT")) for place, what in problems
    ] == [
        ("4", "nothing in the column 'who'"),
        ("5", "the picture a/4.jpg is missing"),
        ("6", "the picture ../5.jpg is not below ROOT"),
    ]


def test_a_table_without_persons_makes_each_picture_one(tmp_path):
    touch(tmp_path, "a/1.jpg", "b.jpg")
    (tmp_path / "labels.csv").write_text("path,label\na/1.jpg,fear\nb.jpg,fear\n")
    describe(tmp_path, "table: {file: labels.csv}\nclasses: {fear: fear}\n")
    assert [one.key for one in read(tmp_path)[0]] == ["emo135_a+1_fear_0", "emo135_b_fear_0"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("classes: {a: null}", "set one of 'glob' .* and 'table'"),
        ('glob: "*"\ntable: {file: a.csv}', "set one of 'glob' .* and 'table'"),
        ('glob: "*/*"\nclasses: {a: joy}', "class 'a': 'joy' is none of neutral, happiness"),
        ('glob: "*/*"\nclases: {a: fear}', "unknown key 'clases'; did you mean 'classes'"),
        ('glob: "*/*"\nunlisted: drop', "unlisted"),
    ],
)
def test_a_wrong_description_is_one_line_with_its_file(tmp_path, text, what):
    describe(tmp_path, text)
    with pytest.raises(ConfigError, match=what) as caught:
        read(tmp_path)
    assert "emo135.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_description_names_must_be_there(tmp_path):
    with pytest.raises(CorpusError, match="emo135.yaml is missing; expected\nROOT/") as caught:
        read(tmp_path)
    assert "configs/corpora/emo135.yaml" in str(caught.value)
    describe(tmp_path, 'root: faces\nglob: "*/*"\n')
    with pytest.raises(CorpusError, match="emo135.yaml: root: there is no folder .*/faces"):
        read(tmp_path)
    describe(tmp_path, "table: {file: labels.csv}\n")
    with pytest.raises(CorpusError, match="labels.csv: cannot be read"):
        read(tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(CorpusError, match="labels.csv: has no column 'path'; found: file, label"):
        read(tmp_path)
    describe(tmp_path, "glob: /etc/*\n")
    with pytest.raises(CorpusError, match=r"glob '/etc/\*': .*; give a pattern such as"):
        read(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(CorpusError, match="no such folder; give the root of emo135"):
        read(tmp_path, f"description={EXAMPLE}")
