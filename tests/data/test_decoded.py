"""Decoded pictures kept on disk: the same pixels without the tars, and never those of others."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from disks import remount, small_disk

from norface.config import load_config
from norface.data import decoded
from norface.data.loader import DataConfig
from norface.data.shards import ShardIndex, write_index
from norface.errors import CorpusError


def read_all(index: ShardIndex) -> np.ndarray:
    return np.stack([index.read_pixels(row) for row in range(len(index))])


def remove_tars(index: ShardIndex) -> None:
    """So that nothing but what is kept can answer. A new index has no tar open."""
    for path in index.shard_paths:
        path.unlink()


def test_what_was_read_once_needs_no_tar_again(write_shards, tmp_path):
    plain = read_all(write_shards(10))
    index = ShardIndex.open(tmp_path / "shards")
    index.keep_decoded(tmp_path / "kept")
    some = index.select(where=np.arange(10) % 3 == 0)
    np.testing.assert_array_equal(read_all(some), plain[::3])
    remove_tars(index)
    again = ShardIndex.open(tmp_path / "shards")
    again.keep_decoded(tmp_path / "kept")
    for row in range(10):
        if row % 3 == 0:
            found = again.read_pixels(row)
            np.testing.assert_array_equal(found, plain[row])
            found[:] = 0
            np.testing.assert_array_equal(again.read_pixels(row), plain[row])
        else:
            with pytest.raises(CorpusError, match="shard-00000"):
                again.read_pixels(row)


def test_every_folder_has_its_own_and_a_folder_written_again_is_decoded_again(
    write_shards, tmp_path
):
    kept = tmp_path / "kept"
    for name, count in (("one", 6), ("two", 8)):
        write_shards(count, name=name)
        for path in (tmp_path / name).glob("*.tar"):
            path.rename(path.with_name(path.name.replace("shard", name)))
    for name in ("one", "two"):
        write_index(tmp_path / name)
    index = ShardIndex.open(tmp_path / "two")
    index.keep_decoded(kept)
    read_all(index)
    one = ShardIndex.open(tmp_path / "one")
    one.keep_decoded(kept)
    remove_tars(index)
    assert len(read_all(one)) == 6
    written_again = write_shards(8, name="three", side=32)
    written_again.keep_decoded(kept)
    assert read_all(written_again).shape == (8, 32, 32, 3)
    assert len(list(kept.glob("*.pixels"))) == 3


def read_through(folder: Path, kept: Path) -> None:
    index = ShardIndex.open(folder)
    index.keep_decoded(kept)
    read_all(index)


def test_processes_share_what_is_kept(write_shards, tmp_path):
    plain = read_all(write_shards(10))
    index = ShardIndex.open(tmp_path / "shards")
    index.keep_decoded(tmp_path / "kept")
    process = multiprocessing.get_context("spawn").Process(
        target=read_through, args=(tmp_path / "shards", tmp_path / "kept")
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    remove_tars(index)
    np.testing.assert_array_equal(read_all(index), plain)


def test_an_index_that_keeps_travels_to_another_process(write_shards, tmp_path):
    index = write_shards(4)
    index.keep_decoded(tmp_path / "kept")
    plain = read_all(index)
    there = pickle.loads(pickle.dumps(index))
    remove_tars(index)
    np.testing.assert_array_equal(read_all(there), plain)


def test_after_a_start_of_the_machine_pictures_are_decoded_again(
    write_shards, tmp_path, monkeypatch
):
    write_shards(4)
    index = ShardIndex.open(tmp_path / "shards")
    index.keep_decoded(tmp_path / "kept")
    plain = read_all(index)
    file = next((tmp_path / "kept").glob("*.pixels"))
    file.write_bytes(bytes(file.stat().st_size))
    assert (read_all(index) == 0).all(), "they came from the file"
    (tmp_path / "boot_id").write_text("another\n")
    monkeypatch.setattr(decoded, "BOOT_ID", tmp_path / "boot_id")
    index.keep_decoded(tmp_path / "kept")
    np.testing.assert_array_equal(read_all(index), plain)


def test_a_full_disk_ends_the_keeping_and_not_the_reading(write_shards, tmp_path, capsys):
    with small_disk(tmp_path / "disk", "size=16k") as disk:
        plain = read_all(write_shards(20, side=32))
        index = ShardIndex.open(tmp_path / "shards")
        index.keep_decoded(disk)
        np.testing.assert_array_equal(read_all(index), plain)
        np.testing.assert_array_equal(read_all(index), plain)
        said = capsys.readouterr().err
        assert said.count("no more pictures are kept (No space left on device)") == 1
        remount(disk, "size=1m")
        index.keep_decoded(disk)
        np.testing.assert_array_equal(read_all(index), plain)
        remove_tars(index)
        np.testing.assert_array_equal(read_all(index), plain)


def test_a_folder_that_cannot_be_written_is_named(write_shards, tmp_path):
    index = write_shards(4)
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match=r"file/kept: decoded pictures cannot be kept here \(Not"):
        index.keep_decoded(tmp_path / "file" / "kept")


def test_a_config_keeps_them(write_shards, tmp_path):
    write_shards(6)
    words = [
        f"shards=[{tmp_path / 'shards'}]",
        f"decoded_folder={tmp_path / 'kept'}",
        "split=train",
    ]
    config = load_config(DataConfig, None, words)
    plain = read_all(config.open())
    remove_tars(config.open())
    np.testing.assert_array_equal(read_all(config.open()), plain)
