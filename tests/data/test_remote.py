"""Shards behind URLs: fetched once, whole, for all processes of a machine."""

import itertools
import multiprocessing
import os
import shutil
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pytest
from coloured_faces import make_record

from norface.config import load_config
from norface.data.loader import DataConfig, FaceDataset, GlobalBatchSampler, build_loader
from norface.data.pairing import PairDataset
from norface.data.shards import ShardIndex, ShardWriter
from norface.data.streaming import build_pair_loader
from norface.errors import ConfigError, CorpusError


@pytest.fixture
def source(write_shards):
    """A folder of shards that only its URL is known of."""
    return write_shards(10).folders[0]


@pytest.fixture
def memory(source):
    """The same behind memory://."""
    system = fsspec.filesystem("memory")
    system.put(str(source), "/bucket/faces", recursive=True)
    yield "memory://bucket/faces"
    system.rm("/bucket", recursive=True)


@pytest.fixture
def server(source):
    """The same behind http://, with the number of times that each file was asked for."""
    asked = Counter()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked[self.path] += 1
            super().do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=source.parent)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/shards", asked
        http.shutdown()


def assert_same(index, source):
    local = ShardIndex.open(source)
    assert list(index.table["key"]) == list(local.table["key"]) and len(local) == len(index)
    for row in range(len(local)):
        assert index.read_record(row) == local.read_record(row)
        np.testing.assert_array_equal(index.read_pixels(row), local.read_pixels(row))


def test_a_url_is_read_as_its_folder(source, memory, tmp_path):
    index = ShardIndex.open(memory, cache=tmp_path / "cache")
    assert_same(index, source)
    assert index.digest == ShardIndex.open(source).digest
    assert_same(ShardIndex.open(f"file://{source}", cache=tmp_path / "cache"), source)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_only_the_tars_that_are_read_are_fetched_and_then_the_source_may_go(memory, tmp_path):
    index = ShardIndex.open(memory, cache=tmp_path)
    assert not list(index.folders[0].glob("*.tar"))
    index.read_pixels(5)
    assert [path.name for path in index.folders[0].glob("*.tar")] == ["shard-000001.tar"]
    for number in (0, 1):
        fsspec.filesystem("memory").rm(f"/bucket/faces/shard-00000{number}.tar")
    again = ShardIndex.open(memory, cache=tmp_path)
    assert again.read_pixels(6).shape == (16, 16, 3)
    with pytest.raises(CorpusError, match="memory://bucket/faces/shard-000000.tar: no such file"):
        again.read_pixels(0)


def test_shards_that_were_written_again_are_fetched_again(memory, tmp_path):
    first = ShardIndex.open(memory, cache=tmp_path / "cache")
    first.read_pixels(0)
    with ShardWriter(tmp_path / "other", side=16) as writer:
        for number in range(3):
            writer.write(make_record(number + 100))
    fsspec.filesystem("memory").put(str(tmp_path / "other") + "/", "/bucket/faces/", recursive=True)
    index = ShardIndex.open(memory, cache=tmp_path / "cache")
    assert index.folders != first.folders
    assert_same(index, tmp_path / "other")


def read_all(url, cache):
    index = ShardIndex.open(url, cache=cache)
    return [index.read_pixels(row).tobytes() for row in range(len(index))]


@pytest.mark.slow
def test_processes_share_one_fetch_of_each_file(source, server, tmp_path):
    url, asked = server
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(read_all, [url] * 3, [tmp_path] * 3))
    assert found[0] == found[1] == found[2] == read_all(source, None)
    tars = {path: count for path, count in asked.items() if path.endswith(".tar")}
    assert tars == {f"/shards/shard-00000{number}.tar": 1 for number in range(3)}
    assert asked["/shards/index.parquet"] == 1


def test_what_a_killed_fetch_left_is_not_taken_for_the_file(source, memory, tmp_path):
    index = ShardIndex.open(memory, cache=tmp_path)
    (index.folders[0] / "shard-000000.tar.tmp").write_bytes(b"half")
    assert_same(index, source)
    assert not list(index.folders[0].glob("*.tmp"))


def test_a_loader_with_workers_and_a_stream_read_a_url(memory, source, tmp_path):
    config = load_config(
        DataConfig,
        overrides=[f"shards=[{memory}]", f"cache_folder={tmp_path / 'cache'}", "workers=2"],
    )
    index = config.open()
    sampler = GlobalBatchSampler(10, batch_per_rank=5, rank=0, world_size=1, seed=0)
    loader = build_loader(FaceDataset(index, side=None, seed=0), sampler, workers=config.workers)
    keys = [key for batch in itertools.islice(loader, 2) for key in batch["key"]]
    assert sorted(keys) == sorted(ShardIndex.open(source).table["key"])

    shutil.rmtree(tmp_path / "cache")
    stream = load_config(
        DataConfig,
        overrides=[f"shards=[{memory}]", f"cache_folder={tmp_path / 'cache'}", "reader=stream"],
    )
    pairs = PairDataset(stream.open(), target_pool=None, seed=0, side=8)
    batches = build_pair_loader(stream, pairs, batch_per_rank=3, rank=0, world_size=1)
    assert next(iter(batches))["original"].shape == (3, 3, 8, 8)


def test_a_path_stays_a_path_and_a_url_keeps_its_slashes():
    config = DataConfig(shards=["data/a", "s3://bucket/b"])
    assert [str(place) for place in config.shards] == ["data/a", "s3://bucket/b"]
    assert config.model_dump(mode="json")["shards"] == ["data/a", "s3://bucket/b"]
    assert DataConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("memory://bucket/nobody", CorpusError, "memory://bucket/nobody/index.parquet: no such f"),
        ("ftpx://bucket/b", ConfigError, "ftpx://bucket/b: cannot be opened .*ftpx"),
        ("http://127.0.0.1:1/b", CorpusError, "http://127.0.0.1:1/b/index.parquet: "),
    ],
)
def test_a_url_that_cannot_be_read_is_one_line(tmp_path, url, error, message):
    with pytest.raises(error, match=message) as found:
        ShardIndex.open(url, cache=tmp_path)
    assert "\n" not in str(found.value)


def test_a_url_without_a_cache_says_what_to_set(memory):
    with pytest.raises(ConfigError, match="set data.cache_folder to a folder on a local disk"):
        ShardIndex.open(memory)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_one_line(memory, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CorpusError, match="cannot be written"):
        ShardIndex.open(memory, cache=tmp_path / "cache")
