"""Folders of shards mixed by weight: shares, passes, ranks, resume, and nothing without weights."""

import itertools
from collections import Counter

import numpy as np
import pytest
from coloured_faces import make_record

from norface.config import load_config
from norface.data.loader import DataConfig, GlobalBatchSampler
from norface.data.mixture import Mixture, share_out
from norface.data.pairing import PairDataset
from norface.data.shards import ShardWriter
from norface.data.streaming import build_pair_loader
from norface.errors import ConfigError, CorpusError
from norface.training.seeding import sample_key

SMALL, LARGE = set(range(10)), set(range(10, 40))
FOLDERS = np.repeat([0, 1], [10, 30])


def take(steps, *, batch=8, rank=0, world_size=1, start_step=0, weights=(1, 1), **options):
    sampler = GlobalBatchSampler(
        40, batch_per_rank=batch, rank=rank, world_size=world_size, seed=5, start_step=start_step,
        mixture=Mixture(FOLDERS, weights) if weights else None, **options,
    )  # fmt: skip
    return list(itertools.islice(sampler, steps))


def rows_of(batches):
    return [draw.row for batch in batches for draw in batch]


def test_ten_and_thirty_samples_at_equal_weights_are_half_of_an_epoch_each():
    rows = rows_of(take(5))
    assert len(rows) == 40
    assert Counter(row in SMALL for row in rows) == {True: 20, False: 20}
    # The small folder is passed over twice, the large one for two thirds.
    assert Counter(Counter(row for row in rows if row in SMALL).values()) == {2: 10}
    assert len({row for row in rows if row in LARGE}) == 20


def test_over_three_epochs_every_sample_of_a_folder_comes_equally_often():
    rows = Counter(rows_of(take(15)))
    assert {rows[row] for row in SMALL} == {6}
    assert {rows[row] for row in LARGE} == {2}


def test_the_large_folder_goes_on_where_the_last_epoch_stopped():
    first, second = (set(rows_of(take(5, start_step=start))) & LARGE for start in (0, 5))
    # The second epoch begins with the 10 that the first left, and goes on with a new pass.
    assert len(first) == 20 and LARGE - first < second


def test_the_folders_are_shuffled_together_and_each_epoch_anew():
    rows = rows_of(take(10))
    for epoch in (rows[:40], rows[40:]):
        folders = [row in SMALL for row in epoch]
        assert sum(one != other for one, other in itertools.pairwise(folders)) > 10
    assert rows[:40] != rows[40:]
    assert rows == rows_of(take(10))


def test_weights_are_in_any_unit():
    assert take(5, weights=(2, 6)) == take(5, weights=(0.25, 0.75))
    rows = rows_of(take(5, weights=(1, 3)))
    # In proportion to the sizes: every sample once.
    assert sorted(rows) == list(range(40))


def test_without_weights_the_order_is_that_of_a_plain_permutation():
    expected = [
        np.random.Generator(np.random.PCG64(sample_key(5, epoch, 0, "order"))).permutation(40)
        for epoch in (0, 1)
    ]
    assert rows_of(take(10, weights=None)) == np.concatenate(expected).tolist()


def test_two_ranks_read_what_one_reads_and_a_resumed_run_goes_on_exactly():
    whole = take(12, batch=8, weights=(3, 2), partners=True)
    parts = [
        take(12, batch=4, rank=rank, world_size=2, weights=(3, 2), partners=True) for rank in (0, 1)
    ]
    assert whole == [left + right for left, right in zip(*parts, strict=True)]
    assert whole[7:] == take(5, batch=8, weights=(3, 2), partners=True, start_step=7)


@pytest.mark.parametrize(
    ("total", "weights", "counts"),
    [
        (40, (1, 1), [20, 20]),
        (10, (1, 1, 1), [4, 3, 3]),
        (10, (0.5, 0.25, 0.25), [5, 3, 2]),
        (7, (1, 9), [1, 6]),
        (3, (1, 0.001), [3, 0]),
        (50, (0.1, 0.2, 0.7), [5, 10, 35]),
    ],
)
def test_shares_are_whole_numbers_that_sum_to_the_epoch(total, weights, counts):
    assert share_out(total, np.array(weights) / sum(weights)).tolist() == counts


def test_targets_follow_the_weights_too():
    mixture = Mixture(FOLDERS, (1, 1))
    picked = Counter(mixture.pick(place) for place in (np.arange(600) + 0.5) / 600)
    # Half of 600 over 10 rows, half over 30.
    assert {picked[row] for row in SMALL} == {30}
    assert {picked[row] for row in LARGE} == {10}
    assert mixture.pick(0.0) == 0 and mixture.pick(np.nextafter(1.0, 0)) == 39


@pytest.fixture
def folders(tmp_path):
    """Two folders of shards: 4 faces of S0001 and 12 of S0002."""
    for name, count, first in (("a", 4, 0), ("b", 12, 100)):
        with ShardWriter(tmp_path / name, side=16) as writer:
            for number in range(first, first + count):
                writer.write(make_record(number, subject="S0001" if name == "a" else "S0002"))
    return [tmp_path / "a", tmp_path / "b"]


def read_pairs(config, steps):
    index = config.open()
    pairs = PairDataset(
        index, target_pool=None, self_pair=0.0, seed=3, side=8, mixture=config.mix(index)
    )
    loader = build_pair_loader(config, pairs, batch_per_rank=4, rank=0, world_size=1)
    return list(itertools.islice(loader, steps))


def test_pairs_are_read_by_the_weights_of_the_config(folders):
    batches = read_pairs(DataConfig(shards=folders, weights=[1, 1]), 8)
    originals, targets = (
        Counter(key.split("_")[1] for batch in batches for key in batch[role])
        for role in ("key", "target_key")
    )
    assert originals == {"S0001": 16, "S0002": 16}
    # A target is drawn anew for each pair: about half, where a quarter of the faces are hers.
    assert 10 <= targets["S0001"] <= 22
    plain = read_pairs(DataConfig(shards=folders), 4)
    assert Counter(key.split("_")[1] for batch in plain for key in batch["key"]) == {
        "S0001": 4,
        "S0002": 12,
    }


def test_the_config_refuses_weights_that_do_not_fit_in_one_line(folders):
    shards = f"shards=[{folders[0]}, {folders[1]}]"
    for given, what in (
        (["weights=[1]"], "'weights' has 1 numbers, 'shards' 2 folders; give one weight a folder"),
        (["weights=[1, 0]"], "greater than 0"),
        (["weights=[1, .nan]"], "finite"),
        (["weights=[1, 1]", "reader=stream"], "only 'reader' index mixes by weight"),
    ):
        with pytest.raises(ConfigError, match=what) as caught:
            load_config(DataConfig, None, [shards, *given])
        assert "weights" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_of_which_nothing_is_chosen_cannot_have_a_weight(folders):
    config = DataConfig(shards=folders, weights=[1, 1], subjects=["synthetic/S0002"])
    with pytest.raises(CorpusError, match="folder 1 of data.shards holds none of the chosen"):
        config.mix(config.open())
