"""What critics read of every face of shards, in a file: classifier inputs instead of pictures.

Table 9 of the paper ("w/ E_exp & E_eye") gives F_cla the features of L_exp's and L_eye's critics.

    write_features([Path("shards/bp4d")], Path("features.npz"), config)

`data.features` of stage cla and `experiments.NAME.features` of `norface paper` read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from norface.critics.base import CriticsConfig, build_critics, read_features
from norface.data.shards import ShardIndex
from norface.errors import ConfigError
from norface.images import to_image
from norface.progress import Progress
from norface.tracking import replacing

KINDS = ("expression", "eyebrow")
"E_exp and E_eye, in this order side by side."
BATCH = 64


def write_features(
    shards: Sequence[Path],
    path: Path,
    config: CriticsConfig,
    *,
    device: torch.device | str = "cpu",
) -> tuple[int, int]:
    """Write .npz: `keys` (N) and `features` float32 (N, F), whole or not at all; returns (N, F).

    Of KINDS those that the config has; F is the sum of their widths. Raises ConfigError where it
    has none and for another ending, CheckpointError where the file cannot be written, CorpusError
    and WeightsError for shards and critics.
    """
    if path.suffix != ".npz":
        raise ConfigError(f"{path}: its name must end with .npz")
    kinds = [kind for kind in KINDS if getattr(config, kind) is not None]
    if not kinds:
        raise ConfigError(
            "critics.expression, critics.eyebrow: neither is set; choose the source of one"
        )
    critics, index = build_critics(config, device, kinds), ShardIndex.open(shards)
    parts = []
    with Progress("features", len(index), unit="face") as progress:
        for start in range(0, len(index), BATCH):
            rows = range(start, min(start + BATCH, len(index)))
            images = to_image(np.stack([index.read_pixels(row) for row in rows])).to(device)
            with torch.no_grad():
                found = read_features(critics, images, kinds)
            each = [found[kind].float().cpu().numpy() for kind in kinds]
            parts.append(np.concatenate(each, axis=1))
            progress.advance(len(rows))
    features = np.concatenate(parts).astype(np.float32)
    with replacing(path) as aside:
        np.savez(aside, keys=index.table["key"].to_numpy(str), features=features)
    return features.shape  # type: ignore[return-value]
