import dataclasses
import io
import json
import tarfile

import numpy as np
import pytest
from coloured_faces import make_record

from norface.cli.main import main
from norface.data.checking import check_shards
from norface.data.shards import ShardWriter
from norface.images import encode_jpeg


def whats(folder):
    return [(one.file, one.key, one.what) for one in check_shards(folder).problems]


def damage(index, row, start, data):
    """Overwrite bytes of a sample's picture."""
    path = index.folders[0] / index.table["shard"][row]
    content = bytearray(path.read_bytes())
    at = int(index.table["image_offset"][row]) + start
    content[at : at + len(data)] = data
    path.write_bytes(content)


def test_sound_shards_are_counted(write_shards):
    report = check_shards(write_shards(10).folders[0])
    assert (report.all.samples, report.shards, report.side, report.problems) == (10, 3, 16, [])
    assert report.subjects == {"synthetic": 4} and report.samples_per_subject == [2, 3]
    assert report.splits == {"train": 6, "test": 4} and report.all.emotions == {"happiness": 5}
    assert report.all.presence[12].labelled == 10 and report.all.presence[12].rate == 0.5
    # Of 0..9 without 0 3 6 9: intensities 1 2 4 5 1 2 (frame modulo 6).
    assert (report.all.intensity[12].labelled, report.all.intensity[12].positive) == (6, 6)


def test_the_verb_prints_a_table_and_ends_with_0(write_shards, capsys):
    folder = write_shards(10).folders[0]
    assert main(["check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "10 samples in 3 shards" in out and "4 of synthetic, 2 to 3 samples each" in out
    # The even frames lack the unit: of 0..5 and of 6..9 half have it. Of 1 2 4 5 (7 8) all reach 1.
    assert "AU12                    10       0.500       0.500       0.500" in out
    assert "AU12                     6       1.000       1.000       1.000" in out
    assert "train: 6 samples of 4 subjects\ntest: 4 samples of 4 subjects\n" in out
    assert "sound" in out


def test_shards_are_counted_by_committed_folds_or_official_parts_of_each_corpus(tmp_path):
    faces = [
        ("bp4d", "F001", "", {12: 1}, None), ("bp4d", "F001", "", {12: 0}, None),
        ("bp4d", "F003", "", {12: 1}, None), ("bp4d", "F999", "", {}, None),
        ("rafdb", "train-1", "train", {}, "fear"), ("rafdb", "test-1", "test", {}, "anger"),
        ("celeba", "7", "", {}, None),
    ]  # fmt: skip
    with ShardWriter(tmp_path, side=16) as writer:
        for number, (corpus, subject, split, presence, emotion) in enumerate(faces):
            about = {"presence": presence, "emotion": emotion, "split": split}
            writer.write(
                dataclasses.replace(make_record(number, side=16), corpus=corpus, subject=subject,
                                    **about)
            )  # fmt: skip
    found = check_shards(tmp_path).by_part
    assert {name: part.samples for name, part in found.parts.items()} == {
        "bp4d test=part1": 2, "bp4d test=part2": 1, "bp4d test=part3": 0,
        "rafdb train": 1, "rafdb test": 1,
    }  # fmt: skip
    assert found.parts["bp4d test=part1"].presence[12].rate == 0.5
    assert found.parts["rafdb test"].emotions == {"anger": 1}
    assert found.unlisted == ["bp4d F999"]
    assert len(found.absent) == 41 - 2 and "bp4d F002" in found.absent


def test_json_is_for_scripts(write_shards, capsys):
    assert main(["check", str(write_shards(10).folders[0]), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["all"]["samples"] == 10 and report["all"]["presence"]["12"]["positive"] == 5


def test_damage_is_listed_and_ends_with_1(write_shards, capsys):
    index = write_shards(10)
    damage(index, 5, 0, bytes(300))
    assert whats(index.folders[0]) == [
        ("shard-000001.tar", "synthetic_S0001_c_5", "the picture is not a readable JPEG")
    ]
    assert main(["check", str(index.folders[0])]) == 1
    assert "damaged: shard-000001.tar: synthetic_S0001_c_5: the picture" in capsys.readouterr().out


def test_a_cut_jpeg_is_found_though_it_decodes(write_shards):
    index = write_shards(3)
    damage(index, 1, int(index.table["image_size"][1]) - 2, b"\0\0")
    assert whats(index.folders[0])[0][1:] == ("synthetic_S0001_c_1", "the JPEG is cut short")


def test_a_cut_shard_is_named_and_the_others_are_read(write_shards):
    folder = write_shards(10).folders[0]
    path = folder / "shard-000001.tar"
    path.write_bytes(path.read_bytes()[:5000])
    report = check_shards(folder)
    assert 6 <= report.all.samples < 10
    assert {one.file for one in report.problems} == {"shard-000001.tar"}
    assert any("bytes, the index says" in one.what for one in report.problems)


def test_missing_extra_and_unfinished_files_are_named(write_shards):
    folder = write_shards(10).folders[0]
    (folder / "shard-000001.tar").rename(folder / "shard-000009.tar")
    (folder / "shard-000010.tar.tmp").write_bytes(b"")
    report = check_shards(folder)
    assert [(one.file, one.what) for one in report.problems] == [
        ("shard-000001.tar", "is in the index, the file is missing"),
        ("shard-000009.tar", "is not in the index"),
    ]
    assert report.unfinished == ["shard-000010.tar.tmp"]


def test_a_stale_index_is_found_and_rebuilt(write_shards, capsys):
    folder = write_shards(10).folders[0]
    other = write_shards(10, name="other", samples_per_shard=5).folders[0]
    (folder / "index.parquet").write_bytes((other / "index.parquet").read_bytes())
    assert main(["check", str(folder)]) == 1
    assert main(["check", str(folder), "--rebuild-index"]) == 0
    assert main(["check", str(folder)]) == 0
    (folder / "index.parquet").unlink()
    assert main(["check", str(folder)]) == 1
    assert "index.parquet: missing beside its tars" in capsys.readouterr().out


def test_keys_that_come_twice_and_pictures_that_do(tmp_path):
    picture = encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    with ShardWriter(tmp_path / "s", side=16) as writer:
        for number in range(3):
            record = make_record(number)
            writer.write(type(record)("synthetic", "S", "c", number, picture))
    assert check_shards(tmp_path / "s").same_pictures == 2
    first = tmp_path / "s" / "shard-000000.tar"
    (tmp_path / "s" / "shard-000001.tar").write_bytes(first.read_bytes())
    problems = whats(tmp_path / "s")
    assert ("shard-000001.tar", "synthetic_S_c_0", "the key comes more than once") in problems


def test_pictures_that_are_not_square_or_not_alike_are_found(tmp_path):
    with tarfile.open(tmp_path / "shard-000000.tar", "w") as tar:
        for number, shape in enumerate([(16, 16), (16, 16), (8, 8), (16, 8)]):
            record = make_record(number)
            picture = encode_jpeg(np.zeros((*shape, 3), np.uint8))
            for suffix, data in ((".jpg", picture), (".json", record.to_json())):
                info = tarfile.TarInfo(record.key + suffix)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    problems = whats(tmp_path)
    assert any(what == "pictures of different sides: 1 of 8, 2 of 16" for _, _, what in problems)
    assert (
        "shard-000000.tar",
        "synthetic_S0003_c_3",
        "the picture is 8x16, not square",
    ) in problems


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_shards_is_a_mistake_not_a_finding(tmp_path, name, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["check", str(tmp_path / name)]) == 2
    assert "no shards in this folder" in capsys.readouterr().err
