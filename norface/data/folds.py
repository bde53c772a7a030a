"""Subject-exclusive folds, named by the part that they test, and class weights.

Published fold numbers contradict each other (fold 1 of one code base tests what fold 3 of another
does), so a fold here is called "test=part3". Membership is committed json in folds/, by subject.

    for fold in load_folds("bp4d", index.persons, validation_share=0.15, seed=0):
        train, test = index.select(fold.train), index.select(fold.test)
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from norface.data.shards import Person
from norface.errors import CorpusError
from norface.training.seeding import sample_rng

FOLDS = Path(__file__).parent / "folds"
"Committed membership: NAME.json = {corpus, source, parts: {part name: [subject]}}."

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Fold:
    """Persons (corpus, subject) to train on, to choose on and to test on.

    Raises CorpusError when a person is in two of the three, or when train or test is empty.
    """

    name: str
    train: list[Person]
    validation: list[Person]
    test: list[Person]

    def __post_init__(self) -> None:
        roles: dict[Person, str] = {}
        for role in ("train", "validation", "test"):
            for person in getattr(self, role):
                if person in roles:
                    raise CorpusError(
                        f"fold '{self.name}': {' '.join(person)} is in {roles[person]} and in"
                        f" {role}; a person may be in one of them only"
                    )
                roles[person] = role
        for role in ("train", "test"):
            if not getattr(self, role):
                raise CorpusError(f"fold '{self.name}': no person to {role} on")


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
    """Folds of a committed list ("bp4d", "disfa") or of a json file like them, for these persons.

    Persons of the data that the list does not know are left out, subjects of the list without data
    are not in the folds: both are logged as warnings, by name. Raises CorpusError for a list that
    cannot be read, an overlap of parts, or a part without any data.
    """
    corpus, parts = read_parts(path_or_name)
    there, listed = set(persons), {person for part in parts.values() for person in part}
    if unknown := sorted(there - listed):
        _log.warning(
            "%d subjects of the data are not in the folds '%s' and are left out: %s",
            len(unknown), path_or_name, name_persons(unknown),
        )  # fmt: skip
    if absent := sorted(listed - there):
        _log.warning(
            "%d subjects of the folds '%s' have no data: %s",
            len(absent), path_or_name, name_persons(absent),
        )  # fmt: skip
    known = {name: [one for one in part if one in there] for name, part in parts.items()}
    empty = [name for name, part in known.items() if not part]
    if empty:
        raise CorpusError(
            f"folds '{path_or_name}': {', '.join(empty)} of {corpus} has no subject in the data,"
            f" which holds {name_persons(sorted(there))}"
        )
    return folds_of_parts(known, seed=seed, validation_share=validation_share)


def read_parts(path_or_name: str | Path) -> tuple[str, dict[str, list[Person]]]:
    """(corpus, part => persons) of a committed name or a json file. Raises CorpusError."""
    names = sorted(path.stem for path in FOLDS.glob("*.json"))
    path = FOLDS / f"{path_or_name}.json" if path_or_name in names else Path(path_or_name)
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        corpus = body["corpus"]
        parts = {
            name: [(corpus, str(subject)) for subject in subjects]
            for name, subjects in body["parts"].items()
        }
    except OSError:
        raise CorpusError(
            f"folds '{path_or_name}': no such file; committed ones are {', '.join(names)}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CorpusError(
            f"folds '{path}': expected json of the form"
            ' {"corpus": "bp4d", "source": "...", "parts": {"part1": ["F001", ...], ...}}'
        ) from None
    if len(parts) < 2:
        raise CorpusError(f"folds '{path}': {len(parts)} parts; at least 2 are needed")
    return corpus, parts


def folds_of_parts(
    parts: Mapping[str, Sequence[Person]], *, seed: int, validation_share: float
) -> list[Fold]:
    """One fold a part: it is tested, the others train, less the validation persons carved out.

    Raises CorpusError for a person of two parts.
    """
    homes: dict[Person, str] = {}
    for name, part in parts.items():
        for person in part:
            if (home := homes.setdefault(person, name)) != name:
                raise CorpusError(
                    f"folds: {' '.join(person)} is in {home} and in {name}; parts must not overlap"
                )
    folds = []
    for name, test in parts.items():
        others = [person for other, part in parts.items() if other != name for person in part]
        train, validation = carve(others, seed=seed, share=validation_share, purpose=name)
        folds.append(Fold(f"test={name}", train, validation, sorted(test)))
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


def name_persons(persons: Sequence[Person], most: int = 8) -> str:
    """`bp4d F001, bp4d F002 and 3 more`, for messages."""
    names = ", ".join(" ".join(person) for person in persons[:most])
    return f"{names} and {len(persons) - most} more" if len(persons) > most else names or "nobody"


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
