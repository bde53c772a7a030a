"""Shards that are cut, foreign or contradictory are named, never read as something else."""

import io
import json
import struct
import tarfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from coloured_faces import make_record

from norface.data.checking import check_shards
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, write_index
from norface.errors import CorpusError


def tar_of(path, members):
    """A tar of (name, bytes) written by Python's own library."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75, 0.999])
def test_a_tar_cut_anywhere_is_damaged_for_the_index_builder_and_for_the_reader(
    write_shards, share
):
    index = write_shards(4)
    path = index.folders[0] / "shard-000000.tar"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data.rstrip(b"\0")) * share)])
    with pytest.raises(CorpusError, match="shard-000000.tar: .*(cut|damaged)"):
        write_index(index.folders[0])
    with pytest.raises(CorpusError, match="shard-000000.tar: is .* bytes, its index says"):
        ShardIndex.open(index.folders[0]).read_pixels(0)


def test_a_tar_cut_between_two_samples_is_noticed(write_shards):
    index = write_shards(4)
    path = index.folders[0] / "shard-000000.tar"
    boundary = int(index.table["image_offset"][2]) - 512
    path.write_bytes(path.read_bytes()[:boundary])
    with pytest.raises(CorpusError, match=f"cut or damaged at byte {boundary}"):
        write_index(index.folders[0])


@pytest.mark.parametrize("name", ["/etc/k.jpg", "../k.jpg", "a/k.jpg", ".k.jpg"])
def test_a_member_with_a_path_is_refused(tmp_path, name):
    tar_of(tmp_path / "shard-000000.tar", [(name, b"x"), (name[:-3] + "json", b"{}")])
    with pytest.raises(CorpusError, match=f"member '{name}' is not a plain file name"):
        write_index(tmp_path)


def test_a_link_is_refused(tmp_path):
    with tarfile.open(tmp_path / "shard-000000.tar", "w") as tar:
        info = tarfile.TarInfo("k.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(CorpusError, match="member 'k.jpg' is not a plain file"):
        write_index(tmp_path)


def test_members_that_do_not_belong_together_are_refused(tmp_path):
    record = make_record(1)
    path = tmp_path / "shard-000000.tar"
    tar_of(path, [("a.jpg", record.image), ("b.json", record.to_json())])
    with pytest.raises(CorpusError, match="a.jpg is followed by b.json"):
        write_index(tmp_path)
    tar_of(path, [("a.jpg", record.image), ("a.json", record.to_json())])
    with pytest.raises(CorpusError, match="a: its json says synthetic_S0001_c_1"):
        write_index(tmp_path)
    tar_of(path, [("a.jpg", record.image), ("a.json", b"{")])
    with pytest.raises(CorpusError, match="shard-000000.tar: a: a sample's json is damaged"):
        write_index(tmp_path)
    tar_of(path, [("a.jpg", record.image)])
    with pytest.raises(CorpusError, match="the shard ends before a.json"):
        write_index(tmp_path)


def test_tars_of_plain_webdataset_can_be_indexed(tmp_path):
    records = [make_record(number, split="train") for number in range(3)]
    with webdataset.TarWriter(str(tmp_path / "part-0.tar")) as writer:
        for one in records:
            writer.write({"__key__": one.key, "jpg": one.image, "json": one.to_json()})
    write_index(tmp_path)
    index = ShardIndex.open(tmp_path)
    assert [index.read_record(row) for row in range(3)] == records and index.side == 16


def test_folders_without_shards_and_broken_indexes_are_named(tmp_path, write_shards):
    with pytest.raises(CorpusError, match="no shards in this folder"):
        ShardIndex.open(tmp_path / "nowhere")
    folder = write_shards(3).folders[0]
    (folder / "index.parquet").write_bytes(b"not parquet")
    with pytest.raises(CorpusError, match="index.parquet: damaged, or no index"):
        ShardIndex.open(folder)
    pd.DataFrame({"key": ["a"]}).to_parquet(folder / "index.parquet")
    with pytest.raises(CorpusError, match="index.parquet: damaged, or no index"):
        ShardIndex.open(folder)


def test_a_missing_shard_and_a_damaged_picture_are_named(write_shards):
    index = write_shards(6)
    path = index.folders[0] / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    start = int(index.table["image_offset"][1])
    data[start : start + 300] = bytes(300)
    path.write_bytes(data)
    with pytest.raises(
        CorpusError, match="shard-000000.tar: synthetic_S0001_c_1: .*not a readable"
    ):
        index.read_pixels(1)
    (index.folders[0] / "shard-000001.tar").unlink()
    with pytest.raises(CorpusError, match="shard-000001.tar: cannot be read"):
        index.read_pixels(5)


@pytest.mark.parametrize(
    ("side", "what"),
    [(11_000, "the picture is 11000x11000, more than 100 megapixels; refused"),
     (32, "the picture is 32x32, its index says 16x16")],
)  # fmt: skip
def test_a_picture_of_another_side_is_refused_by_its_header(write_shards, side, what):
    index = write_shards(3)
    path = index.folders[0] / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0", int(index.table["image_offset"][1])) + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    path.write_bytes(data)
    for read in (index.read_pixels, index.read_record):
        with pytest.raises(CorpusError, match=f"shard-000000.tar: synthetic_S0001_c_1: {what}"):
            read(1)
    problems = check_shards(index.folders[0]).problems
    assert [one.what for one in problems if one.key] == ([what] if side == 11_000 else [])
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        (
            "shard",
            "shard-000009.tar",
            "lies in shard-000009.tar, which is no shard that the index lists",
        ),
        ("image_offset", -512, "has image_offset -512"),
        ("json_size", None, "has json_size None"),
    ],
)
def test_a_row_of_the_index_that_leads_nowhere_is_named(write_shards, column, value, what):
    path = write_shards(6).folders[0] / "index.parquet"
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[2] = value
    kind = pa.string() if column == "shard" else pa.int64()
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, kind)), path)
    with pytest.raises(CorpusError) as caught:
        ShardIndex.open(path.parent)
    found = str(caught.value)
    assert f"index.parquet: row 2 (synthetic_S0002_c_2) {what}; run norface check" in found
    assert check_shards(path.parent).problems[0].what.startswith("row 2 (synthetic_S0002_c_2)")
    write_index(path.parent)
    assert len(ShardIndex.open(path.parent)) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"landmarks": [[1, 2]]}, {"landmarks": [[0.5, float("nan")]] * 68}, {"landmarks": 68},
        {"pose": ["a", 1]}, {"pose": [1, 2]}, {"pose": [True, 0, 0]}, {"split": 3},
        {"frame": float("inf")},
    ],
)  # fmt: skip
def test_a_json_of_other_kinds_is_damaged(change):
    body = json.loads(make_record(1).to_json())
    sound = {"landmarks": [[0.5, 0.25]] * 68, "pose": [1, 2.5, -3]}
    assert FaceRecord.from_json(json.dumps(body | sound).encode()).pose == (1, 2.5, -3)
    with pytest.raises(CorpusError, match="a sample's json is damaged"):
        FaceRecord.from_json(json.dumps(body | sound | change).encode())


def test_a_deeply_nested_json_is_damaged():
    with pytest.raises(CorpusError, match="a sample's json is damaged"):
        FaceRecord.from_json(b"[" * 100_000)
