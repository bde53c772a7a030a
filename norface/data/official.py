"""The one fold of corpora with official parts: RAF-DB, AffectNet.

    fold = official_fold(index, seed=0, validation_share=0.15)

It trains on the samples whose split is `train` and tests those of `test`. Such corpora publish no
validation part (AffectNet's is its test part here), so one is carved out of train by person,
seeded; where every picture is a subject of its own that is by picture.
"""

from __future__ import annotations

import logging

from norface.data.folds import Fold, carve, name_persons
from norface.data.shards import ShardIndex
from norface.errors import CorpusError

OFFICIAL = "official"
"What `data.folds` says for this fold."
FOLD = "test=test"
"Name of the fold, after the part that it tests."

_log = logging.getLogger(__name__)


def official_fold(index: ShardIndex, *, seed: int, validation_share: float) -> Fold:
    """Train, validation and test persons of an index by its column `split`.

    Persons of other splits are left out and logged. Raises CorpusError where a part is missing, or
    a person is in two.
    """
    pairs = index.table[["corpus", "subject", "split"]].drop_duplicates()
    parts: dict[str, list[tuple[str, str]]] = {}
    home: dict[tuple[str, str], str] = {}
    for corpus, subject, split in pairs.astype(str).itertuples(index=False):
        person = (corpus, subject)
        if person in home:
            raise CorpusError(
                f"{index.name}: {' '.join(person)} is in the splits '{home[person]}' and '{split}';"
                " official parts must not share a person"
            )
        home[person] = split
        parts.setdefault(split, []).append(person)
    for part in ("train", "test"):
        if part not in parts:
            there = ", ".join(sorted(filter(None, parts))) or "none"
            raise CorpusError(
                f"{index.name}: no sample of the split '{part}', there are: {there}; folds:"
                f" {OFFICIAL} needs the corpus's official parts"
            )
    for split in sorted(parts.keys() - {"train", "test"}):
        _log.warning(
            "%d subjects of split '%s' are in no official part and are left out: %s",
            len(parts[split]), split, name_persons(sorted(parts[split])),
        )  # fmt: skip
    train, validation = carve(parts["train"], seed=seed, share=validation_share, purpose=OFFICIAL)
    return Fold(FOLD, train, validation, sorted(parts["test"]))
