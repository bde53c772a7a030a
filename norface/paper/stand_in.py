"""The synthetic corpus that stands in for a lab's own: shards, true normalized faces, features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from norface.critics.base import CriticsConfig, build_critics, read_features
from norface.data.shards import ShardIndex
from norface.images import to_image
from norface.paper.config import PaperConfig
from norface.synthetic.corpus import write_corpus, write_truth
from norface.tracking import writing

KINDS = ("expression", "eyebrow")
"E_exp and E_eye."
BATCH = 64


def write_stand_in(config: PaperConfig) -> tuple[Path, Path, Path]:
    """Render what is not there yet. Returns shards, the set of true normalized faces, features."""
    size, folder = config.stand_in, config.root / config.name / "data"
    shards = write_corpus(
        folder / "folds", pool="folds", subjects=size.subjects, frames=size.frames, side=size.side,
        workers=size.workers,
    )  # fmt: skip
    # The first face at rest of a person of another pool: the target is nobody who is tested.
    people = write_corpus(
        folder / "targets", pool="normalizer", subjects=1, frames=4, side=size.side, clip_frames=4
    )
    target = ShardIndex.open(people).key_of(0)
    truth = write_truth(
        shards, target, folder / "normalized", target_shards=people, workers=size.workers
    )
    return shards, truth, write_features(shards, folder / "features.npz")


def write_features(shards: Path, path: Path) -> Path:
    """What the packaged critics read of every original: E_exp and E_eye side by side."""
    if path.is_file():
        return path
    chosen = {kind: {"source": "synthetic"} for kind in KINDS}
    critics = build_critics(CriticsConfig.model_validate(chosen))
    index = ShardIndex.open(shards)
    parts = []
    for start in range(0, len(index), BATCH):
        rows = range(start, min(start + BATCH, len(index)))
        images = to_image(np.stack([index.read_pixels(row) for row in rows]))
        found = read_features(critics, images, KINDS)
        parts.append(np.concatenate([found[kind].numpy() for kind in KINDS], axis=1))
    with writing(path):
        np.savez(path, keys=index.table["key"].to_numpy(str), features=np.concatenate(parts))
    return path
