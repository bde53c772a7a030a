"""Subject-exclusive folds, named by the part that they test, and class weights.

Published fold numbers contradict each other (fold 1 of one code base tests what fold 3 of another
does), so a fold here is called "test=part3". Membership is committed json (fold_lists.py).

    for fold in load_folds("bp4d", index.persons, validation_share=0.15, seed=0):
        train, test = index.select(fold.train), index.select(fold.test)
"""

from __future__ import annotations

import dataclasses
import heapq
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from norface.data.fold_lists import ROLES, name_persons, read_fold_list, refuse_overlap
from norface.data.shards import Person
from norface.errors import CorpusError
from norface.training.seeding import sample_key, sample_rng

SAME_PEOPLE: tuple[tuple[str, str], ...] = (("disfa", "disfaplus"),)
"""Corpora whose subjects of one name are one human being: the nine of DISFA+ are all in DISFA
(cosanlab/py-feat feat/evaluation/datasets.py). F001 of BP4D and F001 of BP4D+ are two."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Fold:
    """Persons (corpus, subject) to train on, to choose on and to test on.

    Raises CorpusError when a person is in two of the three, or when train or test is empty. Logs a
    warning when the same human being is trained and tested on under two corpora's names.
    """

    name: str
    train: list[Person]
    validation: list[Person]
    test: list[Person]

    def __post_init__(self) -> None:
        refuse_overlap({role: getattr(self, role) for role in ROLES}, f"fold '{self.name}'")
        for role in ("train", "test"):
            if not getattr(self, role):
                raise CorpusError(f"fold '{self.name}': no person to {role} on")
        if same := find_same_people([*self.train, *self.validation], self.test):
            pairs = ", ".join(f"{' '.join(one)} = {' '.join(other)}" for one, other in same)
            _log.warning(
                "fold '%s' tests on people that it trains on, under another corpus's name: %s",
                self.name, pairs,
            )  # fmt: skip


def find_same_people(
    seen: Iterable[Person], tested: Iterable[Person]
) -> list[tuple[Person, Person]]:
    """Pairs (of `seen`, of `tested`) that are one human being in two corpora.

    For whoever trains on one corpus and tests on another: [] where nobody leaks. A person of the
    same corpus on both sides is no pair; `Fold` refuses that.
    """
    groups = {corpus: group for group in SAME_PEOPLE for corpus in group}
    humans: dict[tuple[tuple[str, str], str], list[Person]] = {}
    for person in sorted(set(seen)):
        if (group := groups.get(person[0])) is not None:
            humans.setdefault((group, person[1]), []).append(person)
    return [
        (one, person)
        for person in sorted(set(tested))
        if person[0] in groups
        for one in humans.get((groups[person[0]], person[1]), [])
        if one[0] != person[0]
    ]


def make_folds(
    persons: Iterable[Person], *, parts: int = 3, seed: int = 0, validation_share: float = 0.2
) -> list[Fold]:
    """Seeded folds of parts that differ by one person at most, for corpora without published ones.

    Raises CorpusError for fewer than three persons, or fewer than parts.
    """
    ordered = sorted(set(persons))
    if len(ordered) < max(parts, 3):
        raise CorpusError(
            f"{len(ordered)} subjects are too few for {parts} folds with a validation subject each;"
            f" at least {max(parts, 3)} are needed"
        )
    order = sample_rng(seed, 0, 0, "folds").permutation(len(ordered))
    members = {f"part{part + 1}": [ordered[i] for i in order[part::parts]] for part in range(parts)}
    return folds_of_parts(members, seed=seed, validation_share=validation_share)


def load_folds(
    path_or_name: str | Path,
    persons: Iterable[Person],
    *,
    seed: int = 0,
    validation_share: float = 0.2,
) -> list[Fold]:
    """Folds of a committed list ("bp4d", "disfa-12-6-9") or of a json file, for these persons.

    Persons of the data that the list does not know are left out, subjects of the list without data
    are not in the folds: both are logged as warnings, by name. A list of parts has its validation
    persons carved out of the train persons, by `seed` and `validation_share`; so has a fixed split
    without validation persons of its own. Raises CorpusError for a list that cannot be read, an
    overlap, or a part or role without any data.
    """
    whole, there = read_fold_list(path_or_name), set(persons)
    known = whole.only(there)
    if empty := known.empty_groups():
        raise CorpusError(
            f"folds '{path_or_name}': {', '.join(empty)} of {whole.corpus} has no subject in the"
            f" data, which holds {name_persons(sorted(there))}"
        )
    # Only now: before an error these would be two lines of what it says in one.
    if unknown := sorted(there - whole.persons):
        _log.warning(
            "%d subjects of the data are not in the folds '%s' and are left out: %s",
            len(unknown), path_or_name, name_persons(unknown),
        )  # fmt: skip
    if absent := sorted(whole.persons - there):
        _log.warning(
            "%d subjects of the folds '%s' have no data: %s",
            len(absent), path_or_name, name_persons(absent),
        )  # fmt: skip
    if known.parts:
        return folds_of_parts(known.parts, seed=seed, validation_share=validation_share)
    return folds_of_splits(known.splits, seed=seed, validation_share=validation_share)


def folds_of_parts(
    parts: Mapping[str, Sequence[Person]], *, seed: int, validation_share: float
) -> list[Fold]:
    """One fold a part: it is tested, the others train, less the validation persons carved out.

    Raises CorpusError for a person of two parts.
    """
    refuse_overlap(parts, "folds")
    folds = []
    for name, test in parts.items():
        others = [person for other, part in parts.items() if other != name for person in part]
        train, validation = carve(others, seed=seed, share=validation_share, purpose=name)
        folds.append(Fold(f"test={name}", train, validation, sorted(test)))
    return folds


def folds_of_splits(
    splits: Mapping[str, Mapping[str, Sequence[Person]]], *, seed: int, validation_share: float
) -> list[Fold]:
    """One fold a split, its persons as they are given; validation is carved only where none is.

    Raises CorpusError for a person of two roles.
    """
    folds = []
    for name, roles in splits.items():
        train, validation = sorted(roles["train"]), sorted(roles.get("validation", []))
        if not validation:
            train, validation = carve(train, seed=seed, share=validation_share, purpose=name)
        folds.append(Fold(f"test={name}", train, validation, sorted(roles["test"])))
    return folds


def carve(
    persons: Sequence[Person], *, seed: int, share: float, purpose: str
) -> tuple[list[Person], list[Person]]:
    """(train, validation): a seeded share of the persons, at least one each unless share is 0."""
    if not 0 <= share < 1:
        raise CorpusError(f"validation share {share} is not in 0 <= share < 1")
    ordered = sorted(persons)
    count = round(share * len(ordered))
    if share > 0:
        count = min(max(count, 1), len(ordered) - 1)
    order = sample_rng(seed, 0, 0, f"validation {purpose}").permutation(len(ordered))
    chosen = set(order[:count].tolist())
    return (
        [person for i, person in enumerate(ordered) if i not in chosen],
        [person for i, person in enumerate(ordered) if i in chosen],
    )


def draw_held_out(persons: Iterable[Person], count: int, *, seed: int) -> list[Person]:
    """`count` persons, sorted, drawn from all corpora, each by its share of persons.

    A person's turn is keyed by seed and name, and hangs on nobody else's.
    """
    turn = lambda person: sample_key(seed, 0, 0, f"held out {person[0]} {person[1]}")
    return sorted(heapq.nsmallest(count, set(persons), key=turn))


def class_weights(labels: np.ndarray) -> np.ndarray:
    """w_i = n (1/r_i) / sum_j (1/r_j), r_i the share of positives among the labelled samples.

    labels: (N, n), 0 or 1, NaN = unlabelled (masked). Returns float64 (n,) with mean 1. A unit that
    is never positive has no rate: its weight is 0, and n counts the others.
    """
    labelled = ~np.isnan(labels)
    positives = np.where(labelled, labels, 0).sum(0, dtype=np.float64)
    inverse = np.divide(
        labelled.sum(0), positives, where=positives > 0, out=np.zeros(len(positives))
    )
    if not inverse.any():
        raise CorpusError("no unit has a positive label: class weights cannot be computed")
    return inverse * (np.count_nonzero(inverse) / inverse.sum())
