"""Folds across corpora: train on some, test on another.

    for fold in corpus_folds(index, train=["bp4d"], seed=0, validation_share=0.15):
        ...   # "test=bp4dplus": Table 5; RAF-DB and AffectNet, either way: Table 6

Where a corpus has official train and test parts, it trains with the one and is tested on the other,
as in the paper's Table 6; else all of it takes part. Validation persons come from the corpora that
train, and from nowhere else.
People who are in two corpora (all of DISFA+ are in DISFA) are never trained on where they are
tested.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from norface.data.folds import Fold, carve, find_same_people
from norface.data.shards import Person, ShardIndex
from norface.errors import ConfigError, CorpusError

CORPORA = "corpora"
"What `data.folds` says for these folds."
_log = logging.getLogger(__name__)


def corpus_folds(
    index: ShardIndex, *, train: Sequence[str] | None, seed: int, validation_share: float
) -> list[Fold]:
    """One fold a tested corpus, named test=CORPUS: those not in `train`, or, where that is None,
    each in turn while all others train (leave one corpus out).

    Raises ConfigError for a corpus that is not there, CorpusError where fewer than two are.
    """
    parts = _parts_of(index)
    corpora = sorted(parts)
    if len(corpora) < 2:
        raise CorpusError(
            f"{index.name}: holds {corpora[0]} only; folds: {CORPORA} needs two corpora or more,"
            " give the folders of both as shards=[...]"
        )
    for corpus in train or []:
        if corpus not in corpora:
            raise ConfigError(f"train_corpora: found '{corpus}'; there are: {', '.join(corpora)}")
    tested = [corpus for corpus in corpora if corpus not in (train or [])]
    if not tested:
        raise ConfigError("train_corpora: names every corpus; leave one to be tested")
    folds = []
    for corpus in tested:
        seen = [one for one in (corpora if train is None else train) if one != corpus]
        persons = [person for one in seen for person in parts[one]["train"]]
        name = f"test={corpus}"
        same = {one for one, _ in find_same_people(persons, parts[corpus]["test"])}
        if same:
            _log.warning(
                "fold '%s': %d persons are not trained on, they are tested under another corpus's"
                " name, first %s", name, len(same), " ".join(min(same)),
            )  # fmt: skip
            persons = [person for person in persons if person not in same]
        kept, validation = carve(persons, seed=seed, share=validation_share, purpose=name)
        folds.append(Fold(name, kept, validation, parts[corpus]["test"]))
    return folds


def _parts_of(index: ShardIndex) -> dict[str, dict[str, list[Person]]]:
    """Corpus => the persons that it trains with and those that it is tested on, sorted."""
    pairs = index.table[["corpus", "subject", "split"]].drop_duplicates()
    found: dict[str, dict[str, set[Person]]] = {}
    for corpus, subject, split in pairs.astype(str).itertuples(index=False):
        found.setdefault(corpus, {}).setdefault(split, set()).add((corpus, subject))
    parts = {}
    for corpus, splits in found.items():
        if {"train", "test"} <= splits.keys():
            if both := splits["train"] & splits["test"]:
                raise CorpusError(
                    f"{index.name}: {' '.join(min(both))} is in the train and the test part of its"
                    " corpus; official parts must not share a person"
                )
            parts[corpus] = {name: sorted(splits[name]) for name in ("train", "test")}
        else:
            everybody = sorted(set().union(*splits.values()))
            parts[corpus] = {"train": everybody, "test": everybody}
    return parts
