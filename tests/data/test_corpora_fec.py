"""FEC from tables and photographs that are written by hand."""

import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from norface.data.corpora.base import open_corpus
from norface.data.corpora.fec import FecReader
from norface.errors import CorpusError
from norface.images import photo_size

TRAIN = "faceexp-comparison-data-train-public.csv"
TEST = "faceexp-comparison-data-test-public.csv"
A, B, C = (f"http://farm1.static.example/1/{name}.jpg" for name in "abc")
BOX = ",0.1,0.5,0.25,0.75"
ROW = f"{A}{BOX},{B}{BOX},{C}{BOX}"


def sha(url):
    return hashlib.sha1(url.encode()).hexdigest()


def save(root, name, size=(200, 100)):
    path = root / "images" / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path, "JPEG")
    return path


@pytest.fixture
def root(tmp_path):
    """Two photographs named by hash, one by its URL."""
    save(tmp_path, f"{sha(A)}.jpg")
    save(tmp_path, f"{sha(B)}.jpg")
    save(tmp_path, "c.jpg")
    return tmp_path


def read(root, *rows, test=(), options=()):
    (root / TRAIN).write_text("".join(f"{row}\n" for row in rows))
    if test:
        (root / TEST).write_text("".join(f"{row}\n" for row in test))
    reader = open_corpus("fec", root, options)
    records = list(reader.read())
    lines = [(place.rsplit("/", 1)[1].rsplit(":", 1)[1], what) for place, what in reader.problems]
    return records, lines, reader.triplets().to_pandas()


def test_a_row_is_three_faces_with_their_boxes_in_pixels(root):
    records, problems, triplets = read(root, f"{ROW},TWO_CLASS_TRIPLET,ann1,3,ann2,1,ann9,3")
    assert [one.subject for one in records] == [sha(url)[:16] for url in (A, B, C)]
    assert [one.image.name for one in records] == [f"{sha(A)}.jpg", f"{sha(B)}.jpg", "c.jpg"]
    # Left 0.1 and right 0.5 of 200 pixels, top 0.25 and bottom 0.75 of 100.
    assert records[0].region == pytest.approx((20, 25, 100, 75))
    assert records[0].key == f"fec_{sha(A)[:16]}_1000-5000-2500-7500_0"
    assert {one.split for one in records} == {"train"}
    assert problems == []
    row = triplets.iloc[0]
    assert [row.key1, row.key2, row.key3] == [one.key for one in records]
    assert (row.type, list(row.votes), row.split) == ("TWO_CLASS_TRIPLET", [3, 1, 3], "train")


def test_rows_may_have_any_number_of_votes_none_and_no_type(root):
    kinds = ["", ",ONE_CLASS_TRIPLET", ",ONE_CLASS_TRIPLET,a,1", ",,,", ","]
    six = ",THREE_CLASS_TRIPLET" + "".join(f",a{n},{1 + n % 3}" for n in range(6))
    records, problems, triplets = read(root, *(ROW + kind for kind in [*kinds, six]))
    assert len(records) == 3 and problems == []
    assert [len(votes) for votes in triplets.votes] == [0, 0, 1, 0, 0, 6]
    assert list(triplets.type) == ["", "ONE_CLASS_TRIPLET", "ONE_CLASS_TRIPLET", "", "",
                                   "THREE_CLASS_TRIPLET"]  # fmt: skip


def test_a_face_in_many_rows_is_one_record_and_two_faces_of_a_photograph_are_two(root):
    other = f"{A},0.5,0.9,0.25,0.75,{B}{BOX},{C}{BOX}"
    records, problems, triplets = read(root, ROW, other, ROW)
    assert len(records) == 4 and problems == []
    assert [one.subject for one in records].count(sha(A)[:16]) == 2
    assert triplets.key1.nunique() == 2 and len(triplets) == 3


def test_quoted_and_spaced_cells_and_empty_lines_are_read(root):
    spaced = ", ".join(f'"{cell}"' for cell in f"{ROW},ONE_CLASS_TRIPLET,a,2".split(","))
    records, problems, triplets = read(root, spaced, "", f"  {ROW}")
    assert len(records) == 3 and len(triplets) == 2 and problems == []


def test_missing_photographs_cost_their_rows_and_the_other_faces_stay(root):
    dead = "http://farm1.static.example/9/dead.jpg"
    records, problems, triplets = read(
        root, f"{dead}{BOX},{B}{BOX},{C}{BOX}", f"{dead}{BOX},{dead}{BOX},{A}{BOX}", ROW
    )
    assert [one.subject for one in records] == [sha(url)[:16] for url in (B, C, A)]
    assert [line for line, _ in problems] == ["1", "2"]
    assert f"neither {sha(dead)}.jpg nor dead.jpg is in" in problems[0][1]
    assert problems[1][1].startswith("2 of 3 faces cannot be used")
    assert len(triplets) == 1


def test_what_was_saved_in_a_photographs_place_is_no_picture(root):
    (root / "images" / f"{sha(B)}.jpg").write_text("<!DOCTYPE html>")
    records, problems, triplets = read(root, ROW)
    assert len(records) == 2 and len(triplets) == 0
    assert "not a picture in a known format" in problems[0][1]


def test_the_hash_comes_before_the_name_and_one_name_serves_one_url(root):
    save(root, "a.jpg")
    other = A.replace("/1/", "/2/")
    records, problems, _ = read(root, ROW, f"{other}{BOX},{B}{BOX},{C}{BOX}")
    assert records[0].image.name == f"{sha(A)}.jpg"
    # a.jpg is free for the other URL; a third URL of that name is refused.
    assert records[3].image.name == "a.jpg" and problems == []
    third = A.replace("/1/", "/3/")
    _, problems, _ = read(root, f"{other}{BOX},{B}{BOX},{third}{BOX}")
    assert "a.jpg could be" in problems[0][1] and "name it by the sha1" in problems[0][1]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (",".join(ROW.split(",")[:12]), "12 columns; three faces need 15"),
        (ROW.replace("0.1,0.5", "0.5,0.1", 1), "column 2: left 0.5, right 0.1, .* is no box"),
        (ROW.replace("0.75", "1.75", 1), "column 2: .* bottom 1.75 is no box"),
        (ROW.replace("0.25", "nan", 1), "column 2: .* top nan, .* is no box"),
        (ROW.replace("0.25", "top", 1), "column 2: found '0.1,0.5,top,0.75'; expected a box"),
        (ROW.replace(B, ""), "column 6: no URL"),
        (f"{ROW},FOUR_CLASS_TRIPLET", "column 16: found 'FOUR_CLASS_TRIPLET'"),
        (f"{ROW},ONE_CLASS_TRIPLET,ann,3,ann", "19 columns: the last annotator has no vote"),
        (f"{ROW},ONE_CLASS_TRIPLET,ann,3,ann,0", "column 20: found vote '0'; valid: 1, 2, 3"),
    ],
)
def test_rows_that_are_no_triplets_are_problems_with_line_and_column(root, row, what):
    records, problems, triplets = read(root, ROW, row)
    assert len(records) == 3 and len(triplets) == 1
    assert [line for line, _ in problems] == ["2"]
    assert re.search(what, problems[0][1])


def test_the_test_table_is_the_part_test_and_shared_faces_are_told_once(root):
    save(root, "d.jpg")
    row = f"{A}{BOX},{B}{BOX},http://x.example/d.jpg{BOX}"
    records, problems, triplets = read(root, ROW, test=[row, row])
    assert [one.split for one in records] == ["train", "train", "train", "test"]
    assert [what.split(" is in ")[1] for _, what in problems] == ["train, and in test"] * 2
    assert list(triplets.split) == ["train", "test", "test"]


def test_the_triplets_are_written_where_the_option_says(root):
    path = root / "shards" / "triplets.parquet"
    _, _, triplets = read(root, f"{ROW},ONE_CLASS_TRIPLET,a,2", options=[f"triplets={path}"])
    written = pd.read_parquet(path)
    assert list(written.columns) == ["key1", "key2", "key3", "type", "votes", "split"]
    assert written.key3[0] == triplets.key3[0] and list(written.votes[0]) == [2]
    assert [one.name for one in path.parent.iterdir()] == ["triplets.parquet"]
    (root / "file").write_text("")
    with pytest.raises(CorpusError, match="cannot be written"):
        read(root, ROW, options=[f"triplets={root / 'file' / 'triplets.parquet'}"])


def test_other_folders_of_photographs_and_of_tables_are_found(root):
    (root / "images").rename(root / "photos")
    (root / "FEC_dataset").mkdir()
    (root / "FEC_dataset" / TEST).write_text(ROW + "\n")
    reader = open_corpus("fec", root, ["images=photos"])
    assert [one.split for one in reader.read()] == ["test"] * 3


def test_a_wrong_folder_gets_the_expected_tree(root):
    with pytest.raises(CorpusError, match=f"{TRAIN} is missing; expected\nROOT/"):
        list(open_corpus("fec", root).read())
    (root / TRAIN).write_text(ROW)
    with pytest.raises(CorpusError, match="folder of photographs .*/none is missing"):
        list(open_corpus("fec", root, ["images=none"]).read())


def test_before_reading_there_are_no_triplets(root):
    assert open_corpus("fec", root).triplets().num_rows == 0


@pytest.mark.parametrize(("turn", "size"), [(1, (30, 20)), (3, (30, 20)), (6, (20, 30))])
def test_the_size_of_a_photograph_is_that_of_the_upright_one(tmp_path, turn, size):
    picture = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = turn
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert photo_size(tmp_path / "a.jpg") == size


def test_published_counts_are_faces_and_photographs():
    assert FecReader.published == {"samples": 156_000, "subjects": 87_517}
