import itertools

import pytest
import torch
from coloured_faces import make_record

from norface.data.loader import Draw, GlobalBatchSampler, build_loader
from norface.data.pairing import PairDataset
from norface.data.shards import ShardIndex, ShardWriter
from norface.errors import CorpusError
from norface.images import encode_jpeg


def draws(count, rows, epoch=0):
    return [Draw(position % rows, epoch, position) for position in range(count)]


@pytest.fixture
def pool(tmp_path):
    with ShardWriter(tmp_path / "pool", side=16) as writer:
        for number in range(100, 103):
            writer.write(make_record(number, subject=f"T{number}"))
    return ShardIndex.open(tmp_path / "pool")


def test_the_original_follows_the_global_order_and_the_target_is_any_face(write_shards):
    dataset = PairDataset(write_shards(10), target_pool=None, self_pair=0, seed=0, side=8)
    pairs = [dataset[draw] for draw in draws(200, 10)]
    assert [pair["key"] for pair in pairs[:10]] == [dataset.index.key_of(row) for row in range(10)]
    assert len({pair["target_key"] for pair in pairs}) == 10
    pair = pairs[3]
    assert pair["original"].shape == pair["target"].shape == (3, 8, 8)
    red = pair["target"][0].float().mean().item()
    assert abs(red - int(pair["target_key"].rsplit("_", 1)[1])) < 3


def test_self_pairs_come_as_often_as_asked_and_are_one_picture(write_shards):
    dataset = PairDataset(write_shards(10), target_pool=None, self_pair=0.3, seed=0, side=8)
    pairs = [dataset[draw] for draw in draws(1000, 10)]
    share = sum(pair["is_self"] for pair in pairs) / 1000
    # 0.3 on purpose and a tenth of the others by chance: 0.37 with a standard deviation of 0.015.
    assert abs(share - 0.37) < 0.05
    for pair in pairs:
        assert pair["is_self"] == (pair["key"] == pair["target_key"])
        assert not pair["is_self"] or torch.equal(pair["original"], pair["target"])


def test_with_a_pool_targets_are_of_the_pool_and_self_pairs_too(write_shards, pool):
    dataset = PairDataset(write_shards(10), target_pool=pool, self_pair=0.3, seed=0, side=8)
    pairs = [dataset[draw] for draw in draws(500, 10)]
    assert {pair["target_key"] for pair in pairs} == set(pool.table["key"])
    assert abs(sum(pair["is_self"] for pair in pairs) / 500 - 0.3) < 0.07
    for draw, pair in zip(draws(500, 10), pairs, strict=True):
        expected = pair["target_key"] if pair["is_self"] else dataset.index.key_of(draw.row)
        assert pair["key"] == expected


def test_pairs_of_one_position_are_the_same_again_and_others_in_the_next_epoch(write_shards):
    index = write_shards(10)
    first = PairDataset(index, target_pool=None, seed=0, side=8)
    again = PairDataset(index, target_pool=None, seed=0, side=8)
    other = PairDataset(index, target_pool=None, seed=1, side=8)
    keys = lambda dataset, epoch: [dataset[d]["target_key"] for d in draws(20, 10, epoch)]
    assert keys(first, 0) == keys(again, 0)
    assert keys(first, 0) != keys(first, 1) and keys(first, 0) != keys(other, 0)


def test_flipping_does_not_change_who_meets_whom_and_keeps_self_pairs_one(tmp_path):
    record = make_record(0)
    half = encode_jpeg(torch.zeros(16, 16, 3).byte().index_fill_(1, torch.arange(8), 200).numpy())
    with ShardWriter(tmp_path / "halves", side=16) as writer:
        for number in range(4):
            base = make_record(number)
            writer.write(type(record)(base.corpus, base.subject, base.clip, number, half))
    index = ShardIndex.open(tmp_path / "halves")
    plain = PairDataset(index, target_pool=None, seed=0, side=16)
    flipped = PairDataset(index, target_pool=None, seed=0, side=16, flip=True)
    left_is_bright = {"original": 0, "target": 0}
    for draw in draws(100, 4):
        one, two = plain[draw], flipped[draw]
        assert (one["key"], one["target_key"]) == (two["key"], two["target_key"])
        assert not two["is_self"] or torch.equal(two["original"], two["target"])
        for name in left_is_bright:
            left_is_bright[name] += int(two[name][0, 0, 0] > 0)
    assert all(30 < count < 70 for count in left_is_bright.values())


def test_one_rank_of_four_pairs_is_two_ranks_of_two(write_shards):
    index = write_shards(10)
    dataset = PairDataset(index, target_pool=None, seed=2, side=8)

    def batches(batch, rank, world_size, workers):
        sampler = GlobalBatchSampler(
            10, batch_per_rank=batch, rank=rank, world_size=world_size, seed=2
        )
        return list(itertools.islice(build_loader(dataset, sampler, workers=workers), 4))

    whole = batches(4, 0, 1, 0)
    left, right = batches(2, 0, 2, 1), batches(2, 1, 2, 0)
    for one, a, b in zip(whole, left, right, strict=True):
        assert one["key"] == a["key"] + b["key"]
        assert one["target_key"] == a["target_key"] + b["target_key"]
        for name in ("original", "target", "is_self"):
            assert torch.equal(one[name], torch.cat([a[name], b[name]]))
    assert whole[0]["is_self"].dtype == torch.bool


def clip_of(key):
    """Corpus, subject and clip of a key."""
    return key.rsplit("_", 1)[0]


def test_clip_pairs_without_a_pool_take_the_target_from_the_originals_clip(write_shards):
    # Twenty faces of four persons, one clip each: five pictures a clip.
    dataset = PairDataset(
        write_shards(20), target_pool=None, self_pair=0, clip_pair=1, seed=0, side=8
    )
    pairs = [dataset[draw] for draw in draws(400, 20)]
    assert all(pair["is_self"] and clip_of(pair["key"]) == clip_of(pair["target_key"])
               for pair in pairs)  # fmt: skip
    assert [pair["key"] for pair in pairs[:20]] == list(dataset.index.table["key"])
    met = {pair["target_key"] for pair in pairs if pair["key"] == pairs[0]["key"]}
    assert len(met) == 5


def test_clip_pairs_with_a_pool_take_the_original_from_the_targets_clip(write_shards):
    index = write_shards(20)
    pool = index.select(where=index.table["frame"].to_numpy() == 6)
    dataset = PairDataset(index, target_pool=pool, self_pair=0.2, clip_pair=0.5, seed=0, side=8)
    pairs = [dataset[draw] for draw in draws(1000, 20)]
    assert {pair["target_key"] for pair in pairs} == {"synthetic_S0002_c_6"}
    same_clip = [pair for pair in pairs if pair["is_self"]]
    assert abs(len(same_clip) / 1000 - 0.7) < 0.07
    assert {pair["key"] for pair in same_clip} == {
        f"synthetic_S0002_c_{frame}" for frame in (2, 6, 10, 14, 18)
    }
    for pair in same_clip:
        red = pair["original"][0].float().mean().item()
        assert abs(red - int(pair["key"].rsplit("_", 1)[1])) < 3


def test_clip_pairs_change_nothing_of_the_other_pairs(write_shards):
    index = write_shards(20)
    plain = PairDataset(index, target_pool=None, self_pair=0.3, seed=0, side=8)
    mixed = PairDataset(index, target_pool=None, self_pair=0.3, clip_pair=0.3, seed=0, side=8)
    kept = 0
    for draw in draws(200, 20):
        one, two = plain[draw], mixed[draw]
        if not two["is_self"]:
            assert one["target_key"] == two["target_key"] and one["key"] == two["key"]
            kept += 1
    assert 55 < kept < 100


def test_a_target_whose_clip_is_not_among_the_originals_is_refused(write_shards, pool):
    dataset = PairDataset(write_shards(10), target_pool=pool, clip_pair=1, self_pair=0, seed=0,
                          side=8)  # fmt: skip
    with pytest.raises(CorpusError, match="no sample of the clip of synthetic_T10"):
        dataset[Draw(0, 0, 0)]


def test_companions_are_any_other_face_of_the_targets_person(tmp_path):
    with ShardWriter(tmp_path, side=16) as writer:
        for number in range(6):
            writer.write(make_record(20 * number, subject="ab"[number % 2]))
    index = ShardIndex.open(tmp_path)
    dataset = PairDataset(index, target_pool=None, seed=0, side=16, companions=True)
    plain = PairDataset(index, target_pool=None, seed=0, side=16)
    seen = set()
    for draw in draws(300, 6):
        pair = dataset[draw]
        target = index.row_of(pair["target_key"])
        # A face's colour tells its row.
        companion = round(pair["companion"][0].float().mean().item() / 20)
        assert companion != target and companion % 2 == target % 2
        seen.add((target, companion))
        assert plain[draw]["target_key"] == pair["target_key"]
    assert len(seen) == 6 * 2


def test_a_target_person_of_one_face_has_no_companion(write_shards, pool):
    with pytest.raises(CorpusError, match="3 of 3 target persons have one face only, .*T100"):
        PairDataset(pool, target_pool=pool, seed=0, side=8, companions=True)
