"""Originals beside their normalized faces: joined by key, mirrored alike, mixed with a partner."""

import numpy as np
import pytest
import torch

from norface.data.augment import AugmentConfig
from norface.data.loader import Draw
from norface.data.mixing import MixConfig
from norface.data.normalized import NormalizedSet, write_set
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, ShardWriter
from norface.data.streams import FaceStreams, StreamDataset
from norface.images import encode_jpeg, unpack_images

COUNT = 12


def write(folder, order, blue):
    """Faces with their number in red, left half dark, and the stream's own blue."""
    with ShardWriter(folder, side=16, samples_per_shard=5) as writer:
        for number in order:
            pixels = np.full((16, 16, 3), (20 * number, 0, blue), np.uint8)
            pixels[:, 8:, 1] = 200
            writer.write(FaceRecord("c", f"S{number}", "c", number, encode_jpeg(pixels)))


@pytest.fixture
def streams(tmp_path):
    write(tmp_path / "shards", range(COUNT), 0)
    index = ShardIndex.open(tmp_path / "shards")
    # The normalized faces lie in another order.
    write(tmp_path / "set", reversed(range(COUNT)), 250)
    card = NormalizedSet(
        target="c_S99_c_0", generator="0" * 12, trained_on=[], source=index.digest, side=16
    )
    write_set(tmp_path / "set", card)
    return FaceStreams(index, normalized=[tmp_path / "set"])


def dataset(streams, labels=None, **options):
    labels = np.zeros((COUNT, 1), np.float32) if labels is None else labels
    return StreamDataset(streams, np.arange(COUNT), labels, seed=1, **options)


def colour(images, channel):
    """Mean of a channel of each stream, 0..255, of bytes or of images."""
    seen = images[:, channel].float().mean((1, 2))
    return (seen + 1) * 127.5 if images.is_floating_point() else seen


def is_mirrored(images):
    """Whether green, which is on the right, is on the left; one answer a stream."""
    green = images[:, 1].float()
    return green[..., :6].mean((1, 2)) > green[..., 10:].mean((1, 2))


def test_each_original_meets_its_own_normalized_face(streams):
    for row in range(COUNT):
        item = dataset(streams)[Draw(row, 0, row)]
        assert item["key"] == f"c_S{row}_c_{row}" and item["images"].shape == (2, 3, 16, 16)
        red, blue = colour(item["images"], 0), colour(item["images"], 2)
        assert (red - 20 * row).abs().max() < 6
        assert blue[0] < 10 and blue[1] > 240


def test_the_streams_of_a_sample_are_mirrored_alike_and_otherwise_changed_by_themselves(streams):
    augment = AugmentConfig(flip=0.5, brightness=0.2)
    seen, apart = [], 0
    for position in range(200):
        images = dataset(streams, augment=augment)[Draw(position % COUNT, 0, position)]["images"]
        flips = is_mirrored(images)
        assert flips[0] == flips[1]
        seen.append(bool(flips[0]))
        apart += bool((images[0, 1].float() - images[1, 1].float()).abs().mean() > 6)
    assert 70 < sum(seen) < 130 and apart > 100


def test_a_sample_is_mixed_with_the_partner_of_its_draw(streams):
    labels = np.arange(COUNT, dtype=np.float32)[:, None]
    mixed = dataset(streams, labels, mix=MixConfig(mixup=1.0))
    for position, (row, partner) in enumerate([(1, 9), (3, 3), (11, 0)]):
        item = mixed[Draw(row, 0, position, partner)]
        share = 1.0 if row == partner else float((item["label"] - partner) / (row - partner))
        assert 0 <= share <= 1
        expected = 20 * (share * row + (1 - share) * partner)
        assert (colour(item["images"], 0) - expected).abs().max() < 6


def test_rectangles_are_pasted_alike_into_all_streams(streams):
    mixed = dataset(streams, mix=MixConfig(cutmix=1.0))
    item = mixed[Draw(0, 0, 3, 11)]
    pasted = [(image[0] > 0) for image in item["images"]]
    assert torch.equal(pasted[0], pasted[1]) and 0 < pasted[0].float().mean() < 1


def test_without_a_partner_or_a_setting_nothing_is_mixed(streams):
    labels = np.arange(COUNT)
    plain = dataset(streams, labels)[Draw(4, 0, 0)]
    alone = dataset(streams, labels, mix=MixConfig(mixup=1.0), classes=COUNT)[Draw(4, 0, 0)]
    other = dataset(streams, labels, mix=MixConfig())[Draw(4, 0, 0, 7)]
    for item in (alone, other):
        images, expected = (unpack_images(one["images"], "cpu") for one in (item, plain))
        assert torch.equal(images, expected) and item["label"] == 4
    soft = dataset(streams, labels, mix=MixConfig(mixup=1.0), classes=COUNT)[Draw(4, 0, 0, 7)]
    assert soft["label"].shape == (COUNT,) and soft["label"].sum() == pytest.approx(1)
    assert set(np.flatnonzero(soft["label"].numpy())) == {4, 7}
