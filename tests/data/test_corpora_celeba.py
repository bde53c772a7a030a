"""CelebA from lists that are written by hand."""

import pytest

from norface.data.corpora.base import open_corpus
from norface.data.records import FaceRecord
from norface.errors import CorpusError

POINTS = "69 109 106 113 77 142 73 152 108 154"


@pytest.fixture
def root(tmp_path):
    """Three pictures of two persons; only the names of the pictures are read."""
    (tmp_path / "img_align_celeba").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "img_align_celeba" / f"{number:06d}.jpg").write_bytes(b"")
    write(tmp_path, "identity_CelebA.txt", "000001.jpg 2880\n000002.jpg 2937\n000003.jpg 2880\n")
    write(tmp_path, "list_eval_partition.txt", "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")
    return tmp_path


def write(root, name, text):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(text)


def read(root):
    reader = open_corpus("celeba", root)
    return list(reader.read()), reader.problems


def test_a_picture_has_the_person_and_the_part_of_the_lists(root):
    records, problems = read(root)
    folder = root / "img_align_celeba"
    assert records == [
        FaceRecord("celeba", "2880", "aligned", 1, folder / "000001.jpg", split="train"),
        FaceRecord("celeba", "2937", "aligned", 2, folder / "000002.jpg", split="validation"),
        FaceRecord("celeba", "2880", "aligned", 3, folder / "000003.jpg", split="test"),
    ]
    assert records[0].key == "celeba_2880_aligned_1"
    assert problems == []


@pytest.mark.parametrize("places", [("celeba", "celeba", "celeba"), ("Img", "Anno", "Eval")])
def test_the_folders_of_torchvision_and_of_the_site_are_found(root, places):
    before, _ = read(root)
    names = ("img_align_celeba", "identity_CelebA.txt", "list_eval_partition.txt")
    for place, name in zip(places, names, strict=True):
        (root / place).mkdir(exist_ok=True)
        (root / name).rename(root / place / name)
    assert [record.key for record in read(root)[0]] == [record.key for record in before]


def test_the_five_points_give_the_region_of_the_face(root):
    lines = ["202599", "lefteye_x lefteye_y righteye_x ... ", f"000002.jpg  {POINTS}"]
    write(root, "list_landmarks_align_celeba.txt", "\n".join(lines))
    records, problems = read(root)
    assert records[0].region is None
    # x 69..108, y 109..154: the larger extent is 45, the middle (88.5, 131.5), half a side 49.5.
    assert records[1].region == pytest.approx((39.0, 82.0, 138.0, 181.0))
    assert problems == []


def test_a_picture_without_identity_is_a_problem_and_no_record(root):
    write(root, "identity_CelebA.txt", "000001.jpg 2880\n000003.jpg x\n")
    records, problems = read(root)
    assert [record.frame for record in records] == [1]
    assert [(place.rsplit("/", 1)[1], what) for place, what in problems] == [
        ("000002.jpg", "no identity in identity_CelebA.txt; left out"),
        ("identity_CelebA.txt:2", "found identity 'x'; expected a number"),
    ]


def test_listed_pictures_that_are_missing_are_problems_with_their_lines(root):
    (root / "img_align_celeba" / "000002.jpg").unlink()
    records, problems = read(root)
    assert [record.frame for record in records] == [1, 3]
    # Once for a picture, however many lists have it.
    assert [place.rsplit("/", 1)[1] for place, _ in problems] == ["identity_CelebA.txt:2"]
    assert "000002.jpg is missing" in problems[0].what


def test_a_picture_of_no_part_keeps_an_empty_split(root):
    write(root, "list_eval_partition.txt", "000001.jpg 3\n000003.jpg 2\n")
    records, problems = read(root)
    assert [record.split for record in records] == ["", "", "test"]
    assert problems[0].what == "found part '3'; valid: 0, 1, 2"
    assert problems[1].what == "is in no part of list_eval_partition.txt"


def test_damaged_lines_are_problems_with_their_numbers(root):
    write(
        root,
        "list_landmarks_align_celeba.txt",
        f"3\nnames\n000001.jpg {POINTS} 7\n000002.jpg {POINTS}\n000002.jpg {POINTS}\n"
        "000003.jpg 1 1 1 1 1 1 1 1 1 1\n",
    )
    records, problems = read(root)
    assert [record.region is not None for record in records] == [False, True, False]
    assert [(place.rsplit(":", 1)[1], what) for place, what in problems] == [
        ("3", "12 columns; expected 11"),
        ("5", "000002.jpg comes more than once"),
        ("6", "the five points coincide"),
    ]
    write(root, "list_landmarks_align_celeba.txt", f"3\nnames\n000001.jpg {POINTS[:-3]}nan\n")
    assert "expected ten whole numbers" in read(root)[1][0].what


@pytest.mark.parametrize(
    "missing", ["img_align_celeba", "identity_CelebA.txt", "list_eval_partition.txt"]
)
def test_a_wrong_folder_gets_the_expected_tree_and_what_is_missing(root, missing):
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(CorpusError, match=f"not a folder of celeba: {missing} is missing") as error:
        read(root)
    assert "img_align_celeba/000001.jpg" in str(error.value)


def test_a_folder_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(CorpusError, match="no such folder; give the root of celeba"):
        read(tmp_path / "nothing")


def test_a_picture_without_a_number_is_a_clip_of_its_own(root):
    (root / "img_align_celeba" / "extra_face.jpg").write_bytes(b"")
    write(root, "identity_CelebA.txt", "extra_face.jpg 7\n")
    records, _ = read(root)
    # printf extra_face | sha1sum
    assert [(one.subject, one.clip, one.frame) for one in records] == [
        ("7", "extra-face-c89d5af9", 0)
    ]
