"""`norface bench loading`: shards against torchvision's ImageFolder, with the same pictures.

Both decode the same JPEG bytes, mirror half of them and give batches of float tensors in -1..1, in
the same number of processes and in turns, so that what else the machine does hits both alike.
Third in turn are shards whose pictures are kept decoded (data.decoded_folder), as they are from the
second epoch on.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from norface.config import Config
from norface.data.loader import FaceDataset, GlobalBatchSampler, build_loader
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, ShardWriter
from norface.errors import ConfigError
from norface.images import decode_jpeg, encode_jpeg, unpack_images

GOAL = 3.0
"Times as fast as ImageFolder."
RENDERED = 8
"Different faces; the other pictures are these, moved and relit."


class LoadingRates(Config):
    """Pictures a second: medians over the rounds, ratios round by round."""

    workers: int
    pictures: int
    picture_kb: float
    "Mean size of a JPEG."
    shards: float
    image_folder: float
    ratio: float
    "Median of shards / image_folder of each round."
    kept: float
    "Shards whose pictures are kept decoded."
    kept_ratio: float
    "Median of kept / image_folder of each round."
    decode_alone: float
    "One process that only decodes JPEG."
    bound: float
    "Median of decode_alone / image_folder: with one worker no loader of JPEG has a larger ratio."

    def describe(self) -> str:
        """Lines for a person."""
        return "\n".join(
            [
                f"{self.pictures} pictures of {self.picture_kb:.0f} kB, {self.workers} workers",
                f"  torchvision, ImageFolder   {self.image_folder:>8.0f} pictures/s",
                f"  norface, shards            {self.shards:>8.0f} pictures/s,"
                f" {self.ratio:.2f} times as many",
                f"  norface, kept decoded      {self.kept:>8.0f} pictures/s,"
                f" {self.kept_ratio:.2f} times as many (goal {GOAL:.0f})",
                f"  one process that decodes and does nothing else: {self.decode_alone:.0f}"
                f" pictures/s, {self.bound:.2f} times ImageFolder",
            ]
        )


def bench_loading(
    shards: Path, folder: Path, *, workers: int, rounds: int, batch: int
) -> LoadingRates:
    """Measure; `folder` is where the pictures of `shards` are written as files.

    Raises ConfigError without torchvision, or with fewer pictures than two batches.
    """
    try:
        import torchvision
    except ImportError as error:
        raise ConfigError(f"torchvision is needed to compare with ({error})") from None
    index = ShardIndex.open(shards)
    batches = len(index) // batch
    if batches < 2:
        raise ConfigError(f"{len(index)} pictures are fewer than two batches of {batch}")
    jpegs = write_files(index, folder)
    change = torchvision.transforms.Compose(
        [
            torchvision.transforms.RandomHorizontalFlip(),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    files = torchvision.datasets.ImageFolder(str(folder), change)
    kept = ShardIndex.open(shards)
    kept.keep_decoded(folder.with_name("decoded"))
    for row in range(len(kept)):
        kept.read_pixels(row)
    ours: list[float] = []
    without_jpeg: list[float] = []
    theirs, alone = [], []
    for number in range(rounds):
        sampler = GlobalBatchSampler(
            len(index), batch_per_rank=batch, rank=0, world_size=1, seed=number
        )
        for source, rates in ((index, ours), (kept, without_jpeg)):
            faces = FaceDataset(source, side=None, seed=number, flip=True)
            loader = build_loader(faces, sampler, workers=workers)
            images = (unpack_images(one["image"], "cpu") for one in loader)
            rates.append(rate(images, batches, batch))
        theirs_loader = DataLoader(
            files, batch_size=batch, shuffle=True, drop_last=True, num_workers=workers
        )
        theirs.append(rate(theirs_loader, batches, batch))
        alone.append(decode_rate(jpegs[: 4 * batch]))
    return LoadingRates(
        workers=workers,
        pictures=len(index),
        picture_kb=float(np.mean([len(jpeg) for jpeg in jpegs])) / 1000,
        shards=float(np.median(ours)),
        image_folder=float(np.median(theirs)),
        ratio=float(np.median(np.array(ours) / theirs)),
        kept=float(np.median(without_jpeg)),
        kept_ratio=float(np.median(np.array(without_jpeg) / theirs)),
        decode_alone=float(np.median(alone)),
        bound=float(np.median(np.array(alone) / theirs)),
    )


def rate(loader: Iterable[object], batches: int, batch: int) -> float:
    """Pictures a second over `batches` batches; the start of the workers is not counted."""
    iterator = iter(loader)
    next(iterator)
    began = time.perf_counter()
    count = sum(1 for _ in itertools.islice(iterator, batches - 1))
    return count * batch / (time.perf_counter() - began)


def decode_rate(jpegs: list[bytes]) -> float:
    """Pictures a second of decoding alone."""
    began = time.perf_counter()
    for jpeg in jpegs:
        decode_jpeg(jpeg)
    return len(jpegs) / (time.perf_counter() - began)


def write_files(index: ShardIndex, folder: Path) -> list[bytes]:
    """The pictures of an index as files, a folder a subject; returns their bytes."""
    jpegs = []
    for row in range(len(index)):
        record = index.read_record(row)
        assert isinstance(record.image, bytes), "read_record gives the encoded picture"
        path = folder / record.subject / f"{record.key}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record.image)
        jpegs.append(record.image)
    return jpegs


def write_faces(folder: Path, *, pictures: int, side: int, rendered: int = RENDERED) -> None:
    """Shards of synthetic faces: a few are rendered, the others are these, moved and relit."""
    from norface.data.augment import AugmentConfig, draw_augmentation
    from norface.synthetic.corpus import make_record
    from norface.training.seeding import sample_rng

    settings = AugmentConfig(shift=0.05, scale=0.1, rotate=5, brightness=0.1, noise=0.02)
    faces = [make_record("folds", number, 0, side=side) for number in range(rendered)]
    pixels = [decode_jpeg(face.image) for face in faces if isinstance(face.image, bytes)]
    with ShardWriter(folder, side=side) as writer:
        for number in range(pictures):
            change = draw_augmentation(settings, sample_rng(0, 0, number, "bench"))
            image = encode_jpeg(change.apply(pixels[number % rendered]))
            subject = faces[number % rendered].subject
            writer.write(FaceRecord("bench", subject, "c", number, image))
