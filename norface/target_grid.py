"""Originals x targets in one picture (Fig. 4 and 9 of the paper).

    sheet = draw_grid(model, originals, targets)       # uint8 (H, W, 3)

The first row shows the targets, the first column the originals, and each place between them the
original's expression on the target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from norface.data.labels import DETECTION_UNITS
from norface.data.shards import ShardIndex
from norface.evaluation.unit_readers import SYNTHETIC
from norface.images import make_grid, resize_pixels, to_image, to_pixels
from norface.models.normalizer import Normalizer


@torch.inference_mode()
def draw_grid(
    model: Normalizer, originals: Sequence[np.ndarray], targets: Sequence[np.ndarray]
) -> np.ndarray:
    """Aligned pictures (S, S, 3) of any side, N and T of them => one of (N + 1) x (T + 1) faces."""
    side = model.config.side
    device = next(model.parameters()).device

    def to_batch(pictures: Sequence[np.ndarray]) -> torch.Tensor:
        resized = np.stack([resize_pixels(one, side) for one in pictures])
        return to_image(resized).to(device)

    first, faces = to_batch(originals), to_batch(targets)
    tokens, aims = model.encode_original(first), model.encode(faces)
    columns = []
    for number in range(len(targets)):
        aim, face = (one[number : number + 1] for one in (aims, faces))
        normalized = model.merge_decode(
            tokens, aim.expand(len(first), -1, -1), face.expand(len(first), -1, -1, -1)
        )
        columns.append(list(to_pixels(normalized)))
    blank = np.full((side, side, 3), 255, np.uint8)
    rows = [[blank, *to_pixels(faces)]]
    rows += [list(row) for row in zip(to_pixels(first), *columns, strict=True)]
    return make_grid(rows)


def choose_originals(index: ShardIndex, count: int) -> list[int]:
    """Rows of `count` faces of different persons that act most, spread over the persons; where
    nothing is labelled, evenly spread rows."""
    units = DETECTION_UNITS[SYNTHETIC]
    level = np.nan_to_num(index.labels("intensity", units)).sum(axis=1)
    level += 3 * np.nan_to_num(index.labels("au", units)).sum(axis=1)
    pairs = index.table["corpus"].astype(str) + "/" + index.table["subject"].astype(str)
    _, person = np.unique(pairs.to_numpy(), return_inverse=True)
    best = {
        one: int(np.flatnonzero(person == one)[level[person == one].argmax()])
        for one in range(int(person.max()) + 1)
    }
    places = np.unique(np.linspace(0, len(best) - 1, count).astype(int))
    return [best[int(place)] for place in places]
