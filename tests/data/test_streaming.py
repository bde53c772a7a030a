import itertools
import tarfile

import pytest
import torch

from norface.data.loader import DataConfig
from norface.data.pairing import PairDataset
from norface.data.streaming import build_pair_loader
from norface.errors import CorpusError


def read(index, steps, *, workers=0, rank=0, world_size=1, start_step=0, pool=None, batch=4):
    config = DataConfig(shards=index.folders, reader="stream", workers=workers)
    pairs = PairDataset(index, target_pool=pool, self_pair=0.3, seed=3, side=8)
    loader = build_pair_loader(
        config, pairs, batch_per_rank=batch, rank=rank, world_size=world_size, start_step=start_step
    )
    return list(itertools.islice(loader, steps))


def red(image):
    return image[0].float().mean().item()


def number(key):
    return int(key.rsplit("_", 1)[1])


def test_a_stream_gives_the_batches_of_the_index_reader_in_form_and_right_in_content(write_shards):
    batch = read(write_shards(40), 1)[0]
    assert batch["original"].shape == batch["target"].shape == (4, 3, 8, 8)
    assert batch["is_self"].dtype == torch.bool
    for key, target_key, original, target, is_self in zip(
        batch["key"], batch["target_key"], batch["original"], batch["target"], batch["is_self"],
        strict=True,
    ):  # fmt: skip
        assert abs(red(original) - number(key)) < 3 and abs(red(target) - number(target_key)) < 3
        assert is_self == (key == target_key)


def test_a_stream_passes_over_every_sample_without_end(write_shards):
    seen = [key for batch in read(write_shards(40), 40) for key in batch["key"]]
    assert len(seen) == 160 and len(set(seen)) == 40
    assert seen[:40] != seen[40:80]


def test_a_stream_is_the_same_again_with_its_workers(write_shards):
    index = write_shards(40)
    for workers in (0, 2):
        first, again = (read(index, 6, workers=workers) for _ in range(2))
        assert [batch["key"] for batch in first] == [batch["key"] for batch in again]
        positions = torch.cat([batch["position"] for batch in first])
        assert positions.tolist() == list(range(24))


def test_ranks_stream_different_shards_at_the_places_of_a_global_batch(write_shards):
    index = write_shards(40)
    parts = [read(index, 3, rank=rank, world_size=2, batch=2) for rank in (0, 1)]
    keys = [{key for batch in part[:1] for key in batch["key"]} for part in parts]
    assert not keys[0] & keys[1]
    assert parts[0][1]["position"].tolist() == [4, 5] and parts[1][1]["position"].tolist() == [6, 7]


def test_a_resumed_stream_goes_on_at_its_step(write_shards):
    index = write_shards(40)
    resumed = read(index, 2, start_step=5)
    assert resumed[0]["position"].tolist() == [20, 21, 22, 23]
    assert resumed[0]["key"] != read(index, 1)[0]["key"]


def test_a_stream_keeps_to_the_selected_subjects(write_shards):
    chosen = write_shards(40).select([("synthetic", "S0001")])
    batches = read(chosen, 10)
    assert {number(key) % 4 for batch in batches for key in batch["key"]} == {1}


def test_targets_of_a_pool_are_read_from_the_pool(write_shards):
    index = write_shards(40)
    pool = index.select([("synthetic", "S0002")])
    targets = {
        number(key) % 4 for batch in read(index, 10, pool=pool) for key in batch["target_key"]
    }
    assert targets == {2}


def test_fewer_shards_than_reading_processes_are_refused_in_one_line(write_shards):
    index = write_shards(40, samples_per_shard=20)
    with pytest.raises(CorpusError, match="2 shards are fewer than the 4 processes"):
        read(index, 1, world_size=4)


def test_a_cut_shard_stops_the_stream_in_one_line(write_shards):
    index = write_shards(8)
    path = index.folders[0] / "shard-000000.tar"
    data = path.read_bytes()
    # Inside a sample, and exactly between two of them.
    for length in (5000, int(index.table["image_offset"][2]) - 512):
        path.write_bytes(data[:length])
        with pytest.raises(CorpusError, match=f"shard-000000.tar: is {length} bytes, its index"):
            read(index, 4)


def test_a_damaged_header_is_not_taken_for_the_end_of_a_shard(write_shards):
    index = write_shards(4)
    path = index.folders[0] / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    at = int(index.table["image_offset"][2])
    data[at - 512 : at] = bytes([255]) * 512
    path.write_bytes(data)
    with pytest.raises(CorpusError, match="2 samples of its index are missing, first .*_c_2"):
        read(index, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../c_1.jpg", "member '../c_1' is not a plain file name; refused"),
        (".jpg", "1 samples of its index are missing, first synthetic_S0001_c_1"),
        ("other.jpg", "1 samples of its index are missing, first synthetic_S0001_c_1"),
    ],
)
def test_a_member_that_is_not_the_indexs_is_not_passed_over(write_shards, name, message):
    index = write_shards(4)
    path = index.folders[0] / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    # The tar keeps its length: both members of the second sample get another name.
    for kind, suffix in (("image", ".jpg"), ("json", ".json")):
        at = int(index.table[f"{kind}_offset"][1]) - 512
        info = tarfile.TarInfo.frombuf(bytes(data[at : at + 512]), "utf-8", "strict")
        info.name = name.replace(".jpg", suffix)
        data[at : at + 512] = info.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        read(index, 4)
