"""Released normalized pictures: matching by name, lists, damaged pictures, and who may use them."""

from __future__ import annotations

import csv
import hashlib
import io
import struct
import zlib
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image

from norface.cli.main import main
from norface.config import load_config
from norface.data.matching import KeyFinder
from norface.data.normalized import read_set
from norface.data.records import FaceRecord
from norface.data.released import ReleasedConfig, plan_release, write_release
from norface.data.shards import ShardIndex, ShardWriter
from norface.data.streams import FaceStreams
from norface.errors import ConfigError, CorpusError
from norface.images import encode_jpeg

SIDE = 16


def picture(colour, side=SIDE):
    return np.full((side, side, 3), colour, np.uint8)


def write_source(folder, records, samples_per_shard=2):
    with ShardWriter(folder, side=SIDE, samples_per_shard=samples_per_shard) as writer:
        for record in records:
            writer.write(record)
    return ShardIndex.open(folder)


def face(corpus, subject, clip, frame, **labels):
    return FaceRecord(corpus, subject, clip, frame, encode_jpeg(picture((9, 9, 9))), **labels)


@pytest.fixture
def rafdb(tmp_path):
    """Five faces in three shards."""
    return write_source(
        tmp_path / "shards",
        [
            face("rafdb", f"{part}-0000{n}", "basic", 0, emotion="fear", split=part)
            for part, n in (("train", 1), ("train", 2), ("train", 3), ("test", 1), ("test", 2))
        ],
    )


def save(root, name, pixels):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".jpg":
        path.write_bytes(encode_jpeg(pixels))
    else:
        Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def release(tmp_path):
    """Pictures of all five faces, named as RAF-DB's aligned ones are."""
    root = tmp_path / "release"
    for red, name in enumerate(("train_00001", "train_00002", "train_00003", "test_00001")):
        save(root, f"{name.split('_')[0]}/{name}_aligned.jpg", picture((red * 60, 128, 128)))
    save(root, "test/test_00002_aligned.png", picture((240, 128, 128), side=2 * SIDE))
    return root


def plan(rafdb, release, *overrides):
    words = ["target=id1", f"shards={rafdb.folders[0]}", *overrides]
    return plan_release("rafdb", release, load_config(ReleasedConfig, overrides=words))


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("bp4d_F001_T1_12.jpg", "bp4d_F001_T1_12"),
        ("deep/er/F001_T1_12.png", "bp4d_F001_T1_12"),
        ("F001_T1_0012.jpg", "bp4d_F001_T1_12"),
        ("bp4d_F001_T1_0012.jpg", "bp4d_F001_T1_12"),
        ("F001/T1/0012.jpg", "bp4d_F001_T1_12"),
        ("bp4d/F001/T1/12.jpg", "bp4d_F001_T1_12"),
        ("F001/T2/12.jpg", "bp4d_F001_T2_12"),
        ("F001/T3/12.jpg", None),
        ("F001/T1/13.jpg", None),
        # Subject and frame: two clips of F001 have a frame 12, one of F002 has.
        ("F001/12.jpg", None),
        ("F002/012.jpg", "bp4d_F002_T1_12"),
        ("M001.jpg", "bp4d_M001_T5_7"),
        ("faces/m001.JPG", "bp4d_M001_T5_7"),
        ("F001.jpg", None),
        ("12.jpg", None),
    ],
)
def test_keys_are_found_by_the_parts_of_a_path(tmp_path, path, key):
    places = [("F001", "T1"), ("F001", "T2"), ("F002", "T1")]
    records = [face("bp4d", subject, clip, 12) for subject, clip in places]
    index = write_source(tmp_path / "s", [*records, face("bp4d", "M001", "T5", 7)])
    assert KeyFinder(index, "bp4d").find(PurePosixPath(path)) == key


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        ("train_00001_aligned.jpg", "train-00001"),
        ("x/Train_00001.png", "train-00001"),
        ("train_set/images/7.jpg", "train-set-7"),
        ("val_set/7.jpg", "val-set-7"),
        ("7.jpg", None),
        ("train/3/image1.jpg", "train-3-image1"),
        ("689/abc.jpg", "abc"),
        ("train_00009.jpg", None),
    ],
)
def test_names_of_source_photographs_are_known_where_every_one_is_a_subject(
    tmp_path, path, subject
):
    subjects = ("train-00001", "train-set-7", "val-set-7", "train-3-image1", "abc")
    index = write_source(tmp_path / "s", [face("x", name, "c", 0) for name in subjects])
    found = KeyFinder(index, "x").find(PurePosixPath(path))
    assert found == (f"x_{subject}_c_0" if subject else None)


def test_a_release_becomes_a_set_with_the_keys_labels_and_shards_of_its_source(
    rafdb, release, tmp_path
):
    done = write_release(plan(rafdb, release), tmp_path / "out")
    found = ShardIndex.open(done.folder)
    same = ["key", "shard", "subject", "split", "emotion"]
    assert found.table[same].astype(str).equals(rafdb.table[same].astype(str))
    reds = [int(found.read_pixels(row)[..., 0].mean().round()) for row in range(5)]
    np.testing.assert_allclose(reds, [0, 60, 120, 180, 240], atol=3)
    card = read_set(done.folder)
    assert (card.target, card.source, card.side) == ("id1", rafdb.digest, SIDE)
    assert card.trained_on is None and done.folder.name == card.generator
    assert card.generator.startswith("released-") and len(card.generator) == 9 + 12
    assert (done.written, done.unmatched, done.missing) == (5, 0, 0)
    # A JPEG of the right side is not compressed a second time.
    original = (release / "train" / "train_00001_aligned.jpg").read_bytes()
    assert found.read_record(0).image == original


def test_the_set_is_named_by_the_content_of_the_folder(rafdb, release, tmp_path):
    first = write_release(plan(rafdb, release), tmp_path / "out").folder
    assert write_release(plan(rafdb, release), tmp_path / "out").folder == first
    save(release, "train/train_00001_aligned.jpg", picture((1, 2, 3)))
    assert write_release(plan(rafdb, release), tmp_path / "out").folder != first


def test_pictures_of_another_side_are_resized(rafdb, release, tmp_path):
    done = write_release(plan(rafdb, release, "side=32"), tmp_path / "out")
    found = ShardIndex.open(done.folder)
    assert found.side == 32 and found.read_pixels(0).shape == (32, 32, 3)


def write_huge_png(path, side):
    """A PNG of side x side black pixels of one bit: large in memory, small on disk."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_used_is_listed_with_its_reason(rafdb, release, tmp_path):
    train = release / "train"
    (train / "train_00001_aligned.jpg").write_text("a text")
    whole = (train / "train_00002_aligned.jpg").read_bytes()
    (train / "train_00002_aligned.jpg").write_bytes(whole[: len(whole) // 2])
    (train / "train_00003_aligned.jpg").unlink()
    write_huge_png(train / "train_00003_aligned.png", 10_400)
    save(release, "test/test_00001_aligned.jpg", np.zeros((SIDE, 24, 3), np.uint8))
    save(release, "zzz/test_00002.jpg", picture((1, 1, 1)))
    save(release, "zzz/who.jpg", picture((1, 1, 1)))
    (release / "readme.txt").write_text("not a picture, not listed")
    done = write_release(plan(rafdb, release), tmp_path / "out")
    rows = read_rows(done.folder / "unmatched.csv")
    assert rows[0] == ["path", "reason"]
    reasons = dict(rows[1:])
    assert list(reasons) == sorted(reasons) and len(reasons) == 6
    assert reasons["train/train_00001_aligned.jpg"] == "not a picture in a known format"
    assert "damaged picture" in reasons["train/train_00002_aligned.jpg"]
    assert "10400x10400 is more than 100 megapixels" in reasons["train/train_00003_aligned.png"]
    assert reasons["test/test_00001_aligned.jpg"] == (
        f"is 24x{SIDE} pixels; a normalized face is square"
    )
    assert reasons["zzz/test_00002.jpg"] == (
        "rafdb_test-00002_basic_0 has a picture already: test/test_00002_aligned.png"
    )
    assert reasons["zzz/who.jpg"] == "no key fits its name"
    missing = [row[0] for row in read_rows(done.folder / "missing.csv")]
    assert missing == ["key", *rafdb.table["key"][:4]]
    assert (done.written, done.unmatched, done.missing) == (1, 6, 4)
    assert list(ShardIndex.open(done.folder).table["key"]) == ["rafdb_test-00002_basic_0"]


def test_a_rerun_after_a_stop_gives_the_same_bytes(rafdb, release, tmp_path):
    (release / "train" / "train_00001_aligned.jpg").write_text("a text")
    whole = write_release(plan(rafdb, release), tmp_path / "whole").folder
    stopped = write_release(plan(rafdb, release), tmp_path / "stopped").folder
    for name in ("index.parquet", "shard-000001.tar", "unmatched.csv", "missing.csv"):
        (stopped / name).unlink()
    kept = (stopped / "shard-000000.tar").stat().st_mtime_ns
    write_release(plan(rafdb, release), tmp_path / "stopped")
    assert digests(stopped) == digests(whole)
    assert (stopped / "shard-000000.tar").stat().st_mtime_ns == kept


def test_originals_without_a_picture_can_be_left_behind(rafdb, release, tmp_path):
    (release / "train" / "train_00002_aligned.jpg").unlink()
    (release / "train" / "train_00003_aligned.jpg").write_text("a text")
    kept = tmp_path / "kept"
    done = write_release(plan(rafdb, release, f"originals={kept}"), tmp_path / "out")
    index = ShardIndex.open(kept)
    wanted = ["rafdb_train-00001_basic_0", "rafdb_test-00001_basic_0", "rafdb_test-00002_basic_0"]
    assert list(index.table["key"]) == wanted
    assert index.read_record(0) == rafdb.read_record(0)
    assert [row[0] for row in read_rows(done.folder / "missing.csv")][1:] == [
        "rafdb_train-00002_basic_0",
        "rafdb_train-00003_basic_0",
    ]
    streams = FaceStreams(index, normalized=[done.folder], test=index.persons, protocol="paper")
    assert streams.count == 2 and streams.read(0)[1].shape == (SIDE, SIDE, 3)
    # The same again finds the same; other pictures do not go into the same folder.
    assert write_release(plan(rafdb, release, f"originals={kept}"), tmp_path / "out") == done
    (release / "train" / "train_00001_aligned.jpg").unlink()
    with pytest.raises(CorpusError, match="kept: holds other faces; choose another folder for"):
        write_release(plan(rafdb, release, f"originals={kept}"), tmp_path / "out2")


def test_the_classifier_takes_released_sets_by_the_papers_protocol_only(rafdb, release, tmp_path):
    folder = write_release(plan(rafdb, release), tmp_path / "out").folder
    test = [("rafdb", "test-00001"), ("rafdb", "test-00002")]
    with pytest.raises(CorpusError, match="nobody knows on whom .*released-.*protocol: paper"):
        FaceStreams(rafdb, normalized=[folder], test=test)
    assert FaceStreams(rafdb, normalized=[folder], test=test, protocol="paper").count == 2


def test_a_set_that_lacks_keys_says_how_to_go_on(rafdb, release, tmp_path):
    (release / "train" / "train_00001_aligned.jpg").unlink()
    folder = write_release(plan(rafdb, release), tmp_path / "out").folder
    with pytest.raises(
        CorpusError, match="1 keys are missing, first rafdb_train-00001.*originals="
    ):
        FaceStreams(rafdb, normalized=[folder], protocol="paper")


def test_a_folder_that_matches_nothing_names_the_first_picture_and_the_first_key(
    rafdb, tmp_path, capsys
):
    save(tmp_path / "other", "b/2.jpg", picture(0))
    save(tmp_path / "other", "a/1.jpg", picture(0))
    words = ["prepare", "normalized", "rafdb", str(tmp_path / "other"), str(tmp_path / "out")]
    assert main([*words, "target=id1", f"shards={rafdb.folders[0]}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no name of 2 pictures fits a key" in error
    assert "the first picture is a/1.jpg, the first key rafdb_train-00001_basic_0" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rafdb", "release", "out"], "'target' must be set"),
        (["rafdb", "release", "out", "target=a/b"], "found 'a/b'; a name of letters, digits"),
        (["rafdb", "release", "out", "target=..", "shards=shards"], "target: found '..'"),
        (["rafdb", "release", "target=x"], "found 2 of CORPUS FOLDER OUT"),
        (["rafdb", "gone", "out", "target=x", "shards=shards"], "gone: no such folder"),
        (["rafdb", "empty", "out", "target=x", "shards=shards"], "empty: holds no picture"),
        (["rafdb", "release", "out", "target=x"], "shards/rafdb: no shards in this folder"),
        (["bp4d", "release", "out", "target=x", "shards=shards"], "holds faces of rafdb, not of"),
        (["rafdb", "release", "out", "target=x", "shard=shards"], "unknown key 'shard'; did you"),
        (["rafdb", "release", "out", "target=x", "shards=shards", "side=4"], "'side': found 4"),
    ],
)
def test_wrong_words_are_one_line(rafdb, release, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["prepare", "normalized", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_the_command_line_counts_first_and_then_says_what_is_there(
    rafdb, release, tmp_path, capsys
):
    (release / "train" / "train_00001_aligned.jpg").unlink()
    words = ["prepare", "normalized", "rafdb", str(release), str(tmp_path / "out"), "target=id1",
             f"shards={rafdb.folders[0]}"]  # fmt: skip
    assert main([*words, "--dry-run"]) == 0
    assert "4 of 4 pictures have a key" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main([*words, "--side", "32"]) == 0
    said = capsys.readouterr().out
    assert "4 normalized faces of 5 in" in said and "1 originals have no picture" in said
    assert "with protocol=paper" in said and "originals=FOLDER" in said
    [folder] = (tmp_path / "out" / "id1").iterdir()
    assert ShardIndex.open(folder).side == 32
    assert main(["check", str(folder)]) == 0


def test_only_unreadable_pictures_end_in_one_line_with_the_first_reason(rafdb, tmp_path):
    root = tmp_path / "release"
    save(root, "train_00001.jpg", picture(0)).write_text("a text")
    with pytest.raises(CorpusError, match="train_00001.jpg: not a picture .*no picture below"):
        write_release(plan(rafdb, root), tmp_path / "out")


def test_a_target_is_needed_by_name():
    with pytest.raises(ConfigError, match="'target' must be set"):
        load_config(ReleasedConfig)


def test_pictures_keep_their_bytes_only_as_whole_jpeg(rafdb, release, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(picture((10, 200, 30))).save(buffer, "PNG")
    # A PNG that calls itself jpg.
    (release / "train" / "train_00001_aligned.jpg").write_bytes(buffer.getvalue())
    done = write_release(plan(rafdb, release), tmp_path / "out")
    record = ShardIndex.open(done.folder).read_record(0)
    assert record.image.startswith(b"\xff\xd8") and record.image != buffer.getvalue()
