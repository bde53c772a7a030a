"""Which samples of an index have a label."""

from __future__ import annotations

from typing import Literal

import numpy as np

from norface.data.shards import ShardIndex
from norface.errors import CorpusError

LabelKind = Literal["au", "intensity", "emotion"]


def labelled_rows(index: ShardIndex, kind: LabelKind) -> np.ndarray:
    """bool (len(index),): samples with an emotion, or with any action unit's presence or intensity.

    Raises CorpusError where there is none.
    """
    if kind == "emotion":
        found = index.emotions() >= 0
    else:
        columns = [name for name in index.table if str(name).startswith(f"{kind}_")]
        found = index.table[columns].notna().to_numpy().any(1)
    if not found.any():
        raise CorpusError(f"{index.name}: no sample has a label of kind '{kind}'")
    return found
