"""Shards of noise and an F_nor that trains on them for some seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from norface.data.records import FaceRecord
from norface.data.shards import ShardWriter
from norface.images import encode_jpeg

SIDE = 16


def write_noise(folder: Path, *, subjects: int = 6, frames: int = 4, corpus: str = "noise") -> Path:
    """Shards of random pictures, five a shard."""
    random = np.random.default_rng(0)
    with ShardWriter(folder, side=SIDE, samples_per_shard=5) as writer:
        for number in range(subjects * frames):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            writer.write(
                FaceRecord(
                    corpus, f"S{number // frames}", "c", number % frames, image=encode_jpeg(pixels)
                )
            )
    return folder


def tiny_nor(*, steps: int, batch_per_rank: int, ranks: int = 1, save: int = 20) -> dict[str, Any]:
    """Values of a config of `norface train nor` for `ranks` ranks, without data."""
    absent = dict.fromkeys(("perc", "id", "lm", "exp", "eye"))
    return {
        "trainer": {
            "images": steps * batch_per_rank * ranks,
            "batch_per_rank": batch_per_rank,
            "save_every_steps": save,
            "sample_every_steps": 0,
            "log_every_steps": 10,
        },
        "normalizer": {
            "encoder": {"side": SIDE, "patch": 4, "width": 32, "depth": 1, "heads": 2},
            "merging": {"heads": 2, "blocks": 1},
            "decoder": {"channels": [32, 16, 16]},
        },
        "discriminator": {"channels": [16, 16]},
        "losses": {"adv": 1.0, "rec": 10.0, **absent},
        "backend": {"device": "cpu"},
        "tracking": {"mlflow": False},
    }
