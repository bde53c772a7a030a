import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from coloured_faces import make_record

from norface.config import load_config
from norface.data.loader import (
    DataConfig,
    FaceDataset,
    GlobalBatchSampler,
    batches_once,
    build_loader,
    every_sample_once,
)
from norface.data.shards import ShardWriter
from norface.errors import ConfigError, CorpusError


def take(length, steps, *, batch=3, rank=0, world_size=1, **options):
    options = {"seed": 5, **options}
    sampler = GlobalBatchSampler(
        length, batch_per_rank=batch, rank=rank, world_size=world_size, **options
    )
    return list(itertools.islice(sampler, steps))


def test_every_sample_comes_once_an_epoch_except_the_dropped_tail():
    batches = take(11, 9)
    for epoch in range(3):
        draws = [draw for batch in batches[3 * epoch : 3 * epoch + 3] for draw in batch]
        assert {draw.epoch for draw in draws} == {epoch}
        assert len({draw.row for draw in draws}) == 9
        assert [draw.position for draw in draws] == list(range(9))


def test_an_epoch_that_divides_evenly_holds_every_row():
    rows = [draw.row for batch in take(12, 4) for draw in batch]
    assert sorted(rows) == list(range(12))


def test_epochs_have_different_orders_and_seeds_too():
    batches = take(12, 8)
    assert batches[:4] != batches[4:]
    assert [d.row for b in batches[:4] for d in b] != [d.row for b in batches[4:] for d in b]
    assert take(12, 4) != take(12, 4, seed=6)
    assert take(12, 4) == take(12, 4)


def test_unshuffled_order_is_the_order_of_the_rows():
    assert [d.row for b in take(6, 4, shuffle=False) for d in b] == [0, 1, 2, 3, 4, 5] * 2


@pytest.mark.parametrize("start", [1, 3, 4, 7])
def test_starting_at_a_step_continues_exactly(start):
    assert take(11, 9)[start:] == take(11, 9 - start, start_step=start)


def test_two_ranks_concatenated_are_one_rank_of_twice_the_batch():
    whole = take(25, 10, batch=4, partners=True)
    left = take(25, 10, batch=2, rank=0, world_size=2, partners=True)
    right = take(25, 10, batch=2, rank=1, world_size=2, partners=True)
    assert whole == [a + b for a, b in zip(left, right, strict=True)]


def test_partners_are_a_permutation_of_the_global_batch():
    batches = take(24, 4, batch=6, partners=True)
    for batch in batches:
        assert sorted(d.partner for d in batch) == sorted(d.row for d in batch)
    moves = [[[d.row for d in b].index(d.partner) for d in b] for b in batches]
    assert moves[0] != moves[1]
    assert all(d.partner == -1 for b in take(24, 4, batch=6) for d in b)


def test_fewer_samples_than_a_global_batch_are_refused():
    with pytest.raises(CorpusError, match="5 samples are fewer than one global batch of 6"):
        GlobalBatchSampler(5, batch_per_rank=3, rank=0, world_size=2, seed=0)


@pytest.mark.parametrize(("length", "world_size"), [(10, 3), (2, 4), (0, 2), (9, 1)])
def test_shares_of_all_ranks_are_every_row_once(length, world_size):
    shares = [every_sample_once(length, rank, world_size) for rank in range(world_size)]
    assert sum(shares, []) == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def load(index, steps, *, workers, start_step=0, flip=True):
    sampler = GlobalBatchSampler(
        len(index), batch_per_rank=3, rank=0, world_size=1, seed=1, start_step=start_step
    )
    dataset = FaceDataset(index, side=8, seed=1, flip=flip)
    loader = build_loader(dataset, sampler, workers=workers)
    return list(itertools.islice(loader, steps))


def same(first, second):
    return all(
        torch.equal(first[name], second[name]) if name != "key" else first[name] == second[name]
        for name in ("key", "row", "epoch", "position", "image")
    )


def test_workers_change_nothing_and_resume_is_exact(write_shards):
    index = write_shards(10)
    alone = load(index, 7, workers=0)
    beside = load(index, 7, workers=2)
    resumed = load(index, 3, workers=2, start_step=4)
    assert all(map(same, alone, beside))
    assert all(map(same, alone[4:], resumed))


def test_two_stops_within_one_epoch_change_nothing(write_shards):
    # Four steps an epoch; stopped within the second epoch after its first and its third step.
    index = write_shards(12)
    whole = load(index, 8, workers=0)
    pieces = load(index, 5, workers=0)
    pieces += load(index, 2, workers=2, start_step=5)
    pieces += load(index, 1, workers=0, start_step=7)
    assert all(map(same, whole, pieces)) and len(pieces) == 8


@pytest.mark.parametrize(("world_size", "batch", "workers"), [(1, 4, 2), (2, 2, 1), (4, 3, 0)])
def test_ranks_and_workers_read_every_sample_once_an_epoch(
    write_shards, world_size, batch, workers
):
    index, seen = write_shards(24), []
    for rank in range(world_size):
        sampler = GlobalBatchSampler(
            24, batch_per_rank=batch, rank=rank, world_size=world_size, seed=3
        )
        loader = build_loader(FaceDataset(index, side=8, seed=3), sampler, workers=workers)
        steps = sampler.steps_per_epoch
        seen += [key for part in itertools.islice(loader, steps) for key in part["key"]]
    assert sorted(seen) == sorted(index.table["key"])


@pytest.mark.parametrize("kind", ["au", "intensity", "emotion"])
def test_only_samples_with_a_label_are_read_without_writing_shards_again(write_shards, kind):
    folder = write_shards(10).folders[0]
    wanted = {
        "au": list(range(10)),
        "intensity": [1, 2, 4, 5, 7, 8],
        "emotion": [1, 3, 5, 7, 9],
    }[kind]
    index = load_config(DataConfig, None, [f"shards=[{folder}]", f"labelled={kind}"]).open()
    assert list(index.table["frame"]) == wanted
    both = load_config(
        DataConfig, None, [f"shards=[{folder}]", f"labelled={kind}", "split=test"]
    ).open()
    assert list(both.table["frame"]) == [number for number in wanted if number >= 6]


def test_a_kind_of_label_that_nobody_has_is_refused(tmp_path):
    with ShardWriter(tmp_path / "bare", side=16) as writer:
        writer.write(make_record(0))
    for kind in ("au", "intensity", "emotion"):
        with pytest.raises(CorpusError, match=f"bare: no sample has a label of kind '{kind}'"):
            DataConfig(shards=[tmp_path / "bare"], labelled=kind).open()


def test_a_batch_holds_the_pictures_of_its_keys(write_shards):
    index = write_shards(10)
    batch = load(index, 1, workers=0, flip=False)[0]
    assert batch["image"].shape == (3, 3, 8, 8) and batch["image"].dtype == torch.uint8
    for key, row, image in zip(batch["key"], batch["row"], batch["image"], strict=True):
        assert index.row_of(key) == row
        red = image[0].float().mean().item()
        assert abs(red - int(key.rsplit("_", 1)[1])) < 3


def test_making_a_loader_leaves_the_global_generator_alone(write_shards):
    index = write_shards(10)
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    load(index, 2, workers=2)
    assert torch.rand(()) == expected


def test_evaluation_batches_hold_every_row_once_in_order(write_shards):
    index = write_shards(10)
    dataset = FaceDataset(index, side=None, seed=0)
    loader = build_loader(dataset, batches_once(range(10), batch=4), workers=0)
    assert [batch["row"].tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert next(iter(loader))["image"].shape == (4, 3, 16, 16)


def test_a_dataset_travels_to_a_spawned_worker(write_shards):
    dataset = FaceDataset(write_shards(4), side=None, seed=0)
    draw = batches_once([2], batch=1)[0][0]
    dataset[draw]
    there = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(there[draw]["image"], dataset[draw]["image"])


def test_config_selects_by_split_and_by_person(write_shards):
    folder = str(write_shards(10).folders[0])
    assert len(load_config(DataConfig, None, [f"shards=[{folder}]", "split=train"]).open()) == 6
    chosen = DataConfig(shards=[folder], subjects=["synthetic/S0001"]).open()
    assert chosen.persons == [("synthetic", "S0001")]


def test_config_names_what_is_not_there(write_shards):
    folder = write_shards(10).folders[0]
    with pytest.raises(CorpusError, match="no split 'dev'; there are: test, train"):
        DataConfig(shards=[folder], split="dev").open()
    with pytest.raises(CorpusError, match="1 persons are not in these shards, first synthetic S9"):
        DataConfig(shards=[folder], subjects=["synthetic/S9"]).open()
    with pytest.raises(ConfigError, match="found 'S9'; expected corpus/subject"):
        DataConfig(shards=[folder], subjects=["S9"]).open()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_is_one_line_from_a_worker_too(write_shards, workers):
    index = write_shards(10)
    (index.folders[0] / "shard-000001.tar").write_bytes(b"cut")
    with pytest.raises(CorpusError, match="^/.*shard-000001.tar: is 3 bytes, its index") as caught:
        load(index, 4, workers=workers)
    assert "\n" not in str(caught.value)


def test_a_process_ends_at_once_though_its_workers_ignore_the_signal_to_end(write_shards):
    folder = write_shards(10).folders[0]
    code = (
        "import sys, time\n"
        "from norface.data.loader import *\n"
        "from norface.data.shards import ShardIndex\n"
        "dataset = FaceDataset(ShardIndex.open(sys.argv[1]), side=8, seed=0)\n"
        "sampler = GlobalBatchSampler(10, batch_per_rank=2, rank=0, world_size=1, seed=0)\n"
        "batches = iter(build_loader(dataset, sampler, workers=2))\n"
        "next(batches)\nraise SystemError('uncaught: the traceback holds the batches')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "uncaught" in done.stderr
