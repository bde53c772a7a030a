import hashlib
import multiprocessing
import os
import resource
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
import webdataset
from coloured_faces import make_record

from norface.data.shards import ShardFile, ShardIndex, ShardWriter, write_index
from norface.errors import CorpusError
from norface.images import decode_jpeg


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def test_webdataset_reads_what_was_written(write_shards):
    index = write_shards(10)
    urls = [str(path) for path in sorted(index.folders[0].glob("*.tar"))]
    samples = list(
        webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("rgb8")
    )
    assert [sample["__key__"] for sample in samples] == list(index.table["key"])
    for row, sample in enumerate(samples):
        assert sample["json"]["subject"] == f"S{row % 4:04d}"
        assert sample["json"]["au"] == {"12": row % 2}
        assert np.abs(sample["jpg"].astype(int) - index.read_pixels(row)).max() <= 2


def test_tarfile_finds_every_member_where_the_index_says(write_shards):
    index = write_shards(10)
    assert sorted(path.name for path in index.folders[0].iterdir()) == [
        "index.parquet", "shard-000000.tar", "shard-000001.tar", "shard-000002.tar",
    ]  # fmt: skip
    for _, row in index.table.iterrows():
        with tarfile.open(index.folders[0] / row["shard"]) as tar:
            image, body = tar.getmember(f"{row['key']}.jpg"), tar.getmember(f"{row['key']}.json")
        assert (image.offset_data, image.size) == (row["image_offset"], row["image_size"])
        assert (body.offset_data, body.size) == (row["json_offset"], row["json_size"])
        assert (image.mtime, image.uid, image.uname) == (0, 0, "")


def test_the_bytes_depend_on_the_samples_alone(write_shards):
    first, second = write_shards(10, name="one"), write_shards(10, name="two")
    assert digests(first.folders[0]) == digests(second.folders[0])
    assert first.digest == second.digest != write_shards(9, name="three").digest


def test_a_record_comes_back_whole(tmp_path):
    record = make_record(
        3,
        presence={1: 1, 12: 0},
        intensity={4: 2.5},
        emotion="fear",
        split="test",
        landmarks=[[0.25, 0.5]] * 68,
        pose=(10.0, -5.5, 0.0),
    )
    with ShardWriter(tmp_path / "s", side=16) as writer:
        writer.write(record)
    assert ShardIndex.open(tmp_path / "s").read_record(0) == record


def test_unlabelled_is_nan_or_minus_one_never_zero(write_shards):
    index = write_shards(7)
    np.testing.assert_array_equal(
        index.labels("intensity", [12, 1])[:4],
        np.array([[np.nan, np.nan], [1, np.nan], [2, np.nan], [np.nan, np.nan]], np.float32),
    )
    assert index.labels("au", [12])[:, 0].tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert index.emotions().tolist() == [-1, 1, -1, 1, -1, 1, -1]


def test_selections_read_their_own_pictures(write_shards):
    index = write_shards(10)
    chosen = index.select([("synthetic", "S0001"), ("synthetic", "S0003")], split="train")
    assert list(chosen.table["frame"]) == [1, 3, 5]
    assert chosen.read_pixels(2)[0, 0, 0] == pytest.approx(5, abs=2)
    assert chosen.row_of("synthetic_S0003_c_3") == 1
    again = chosen.select(where=np.array([False, True, True]))
    assert list(again.table["frame"]) == [3, 5]
    assert again.persons == [("synthetic", "S0001"), ("synthetic", "S0003")]
    with pytest.raises(CorpusError, match="1 keys are missing, first synthetic_S0001_c_1"):
        again.row_of("synthetic_S0001_c_1")


def test_several_folders_are_read_as_one(tmp_path, write_shards):
    first = write_shards(5).folders[0]
    with ShardWriter(tmp_path / "other", side=16) as writer:
        writer.write(make_record(99, subject="A1", presence={4: 1}))
    index = ShardIndex.open([first, tmp_path / "other"])
    assert len(index) == 6 and list(index.table["folder"]) == [0] * 5 + [1]
    assert index.read_pixels(5)[0, 0, 0] == pytest.approx(99, abs=2)
    assert index.read_record(0).subject == "S0000"
    assert np.isnan(index.labels("au", [4])[:5]).all() and index.labels("au", [4])[5, 0] == 1
    assert index.persons[0] == ("synthetic", "A1")


def test_the_same_key_in_two_folders_is_refused(write_shards):
    folders = [write_shards(5, name=name).folders[0] for name in ("one", "two")]
    with pytest.raises(CorpusError, match="5 keys come more than once, first synthetic_S0000_c_0"):
        ShardIndex.open(folders)


def test_folders_of_different_sides_are_refused(tmp_path, write_shards):
    folders = [write_shards(3).folders[0], write_shards(3, name="large", side=32).folders[0]]
    with pytest.raises(CorpusError, match="pictures of 32 pixels beside 16"):
        ShardIndex.open(folders)


def test_an_index_built_from_the_tars_is_the_same_file(write_shards):
    folder = write_shards(10).folders[0]
    before = digests(folder)
    (folder / "index.parquet").unlink()
    with pytest.raises(CorpusError, match="missing beside its tars; run norface check"):
        ShardIndex.open(folder)
    write_index(folder)
    assert digests(folder) == before


def test_a_stopped_writer_keeps_whole_shards_and_goes_on_to_the_same_bytes(tmp_path, write_shards):
    whole = write_shards(10).folders[0]

    def record(number):
        index = ShardIndex.open(whole)
        return index.read_record(number)

    folder = tmp_path / "stopped"
    with (
        pytest.raises(KeyboardInterrupt),
        ShardWriter(folder, side=16, samples_per_shard=4) as writer,
    ):
        for number in range(6):
            writer.write(record(number))
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["shard-000000.tar"]
    with pytest.raises(CorpusError, match="already holds 1 shards"):
        ShardWriter(folder, side=16, samples_per_shard=4)
    with ShardWriter(folder, side=16, samples_per_shard=4, resume=True) as writer:
        assert writer.done == 4
        for number in range(writer.done, 10):
            writer.write(record(number))
    assert digests(folder) == digests(whole)


def test_a_killed_process_leaves_only_a_temporary_file_that_the_next_run_overwrites(tmp_path):
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from coloured_faces import make_record\n"
        "from norface.data.shards import ShardWriter\n"
        "writer = ShardWriter(sys.argv[2], side=16, samples_per_shard=2)\n"
        "for number in range(3): writer.write(make_record(number))\n"
        "os._exit(9)"
    )
    folder = tmp_path / "s"
    done = subprocess.run([sys.executable, "-c", code, os.path.dirname(__file__), str(folder)])
    assert done.returncode == 9
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["shard-000000.tar", "shard-000001.tar.tmp"]
    with ShardWriter(folder, side=16, samples_per_shard=2, resume=True) as writer:
        for number in range(writer.done, 3):
            writer.write(make_record(number))
    assert len(ShardIndex.open(folder)) == 3
    assert not list(folder.glob("*.tmp"))


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path):
    # A limit on the size of files stands for the full disk: writing fails in the same call.
    code = (
        "import resource, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from coloured_faces import make_record\n"
        "from norface.data.shards import ShardWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "with ShardWriter(sys.argv[2], side=16) as writer:\n"
        "    for number in range(50): writer.write(make_record(number))\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    folder = tmp_path / "s"
    done = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__), str(folder)],
        capture_output=True,
        text=True,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert (
        last.startswith("norface.errors.CorpusError") and "shard-000000.tar: cannot be writ" in last
    )
    assert "File too large" in last and list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(CorpusError, match="cannot be written"),
        ShardWriter(tmp_path / "file" / "shards", side=16) as writer,
    ):
        writer.write(make_record(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "has no encoded picture"),
        ({"image": b"hello"}, "not a readable JPEG"),
        ({"image": make_record(0, side=8).image}, "found a JPEG of 8x8"),
        ({"image": make_record(0).image[:-9]}, "the JPEG is cut short"),
    ],
)
def test_a_bad_picture_is_refused_by_name(tmp_path, change, message):
    import dataclasses

    bad = dataclasses.replace(make_record(1), **change)
    with (
        pytest.raises(CorpusError, match=f"shard-000000.tar: synthetic_S0001_c_1: .*{message}"),
        ShardWriter(tmp_path / "s", side=16) as writer,
    ):
        writer.write(bad)
    assert list((tmp_path / "s").iterdir()) == []


def test_a_key_that_comes_twice_is_refused_even_over_shards(tmp_path):
    with (
        pytest.raises(CorpusError, match="the key synthetic_S0000_c_0 comes twice"),
        ShardWriter(tmp_path / "s", side=16, samples_per_shard=1) as writer,
    ):
        writer.write(make_record(0))
        writer.write(make_record(0))


def test_a_writer_without_samples_says_so(tmp_path):
    with pytest.raises(CorpusError, match="no sample was written"), ShardWriter(tmp_path / "s"):
        pass


def test_one_shard_can_be_written_by_itself(tmp_path):
    with ShardFile(tmp_path / "n" / "shard-000007.tar", side=16) as shard:
        shard.write(make_record(2))
    write_index(tmp_path / "n")
    index = ShardIndex.open(tmp_path / "n")
    assert list(index.table["shard"]) == ["shard-000007.tar"]
    with pytest.raises(ZeroDivisionError), ShardFile(tmp_path / "n" / "x.tar", side=16):
        _ = 1 / 0
    assert sorted(p.name for p in (tmp_path / "n").iterdir()) == [
        "index.parquet",
        "shard-000007.tar",
    ]


def read_many(index, rows, queue):
    queue.put([int(index.read_pixels(row)[0, 0, 0]) for row in rows])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_and_threads_share_an_index(write_shards, method):
    index = write_shards(40)
    expected = [int(index.read_pixels(row)[0, 0, 0]) for row in range(40)]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    rows = list(range(40)) * 5
    workers = [context.Process(target=read_many, args=(index, rows, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert found == [expected * 5] * 2
    results = []
    threads = [
        threading.Thread(
            target=lambda: results.append([int(index.read_pixels(r)[0, 0, 0]) for r in rows])
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected * 5] * 4


def test_more_shards_than_open_files(write_shards, monkeypatch):
    import norface.data.tars

    monkeypatch.setattr(norface.data.tars, "OPEN_FILES", 2)
    index = write_shards(10, samples_per_shard=1)
    before = len(os.listdir("/proc/self/fd"))
    for row in list(range(10)) * 2:
        assert index.read_pixels(row)[0, 0, 0] == pytest.approx(row, abs=2)
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_pictures_are_those_of_the_bytes(write_shards):
    index = write_shards(3)
    np.testing.assert_array_equal(index.read_pixels(2), decode_jpeg(index.read_record(2).image))


def test_rows_of_persons_are_all_of_theirs_and_none_of_strangers(write_shards):
    index = write_shards(10)
    some = [("synthetic", "S0001"), ("synthetic", "S0003"), ("bp4d", "S0001")]
    assert index.rows_of_persons(some).tolist() == [1, 3, 5, 7, 9]
    assert index.rows_of_persons([]).tolist() == []
    assert index.select([some[0]]).rows_of_persons(some).tolist() == [0, 1, 2]
