"""Committed lists of who is tested with whom: folds/NAME.json, or a file of your own like them.

Parts, each of which is tested once while the others train:
    {"corpus": "bp4d", "source": "...", "parts": {"part1": ["F001", ...], "part2": [...]}}
Or splits that are fixed as they are; without "validation", that is carved out of "train":
    {"corpus": "disfa", "source": "...", "splits": {"set0": {"train": ["SN003", ...],
     "validation": [...], "test": [...]}}}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from norface.data.shards import Person
from norface.errors import CorpusError

FOLDS = Path(__file__).parent / "folds"
"Where the committed lists are."
ROLES = ("train", "validation", "test")

_FORM = (
    'expected json of the form {"corpus": "bp4d", "source": "...", "parts": {"part1": ["F001",'
    ' ...], ...}}, or with "splits": {"set0": {"train": [...], "validation": [...], "test":'
    " [...]}} in place of parts"
)


@dataclasses.dataclass(frozen=True)
class FoldList:
    """Persons (corpus, subject) by part, or by split and role; one of the two is empty."""

    corpus: str
    parts: dict[str, list[Person]]
    splits: dict[str, dict[str, list[Person]]]

    @property
    def persons(self) -> set[Person]:
        """Everybody on the list."""
        groups = [*self.parts.values(), *(g for one in self.splits.values() for g in one.values())]
        return {person for group in groups for person in group}

    @property
    def tested(self) -> dict[str, list[Person]]:
        """Name of each part or split => who is tested there."""
        return self.parts or {name: roles["test"] for name, roles in self.splits.items()}

    def only(self, there: set[Person]) -> FoldList:
        """The list without those who are not `there`."""
        keep = lambda groups: {
            name: [one for one in group if one in there] for name, group in groups.items()
        }
        splits = {name: keep(roles) for name, roles in self.splits.items()}
        return FoldList(self.corpus, keep(self.parts), splits)

    def empty_groups(self) -> list[str]:
        """Names of the parts ("part1") and roles ("train of set0") that nobody is in."""
        roles = {
            f"{role} of {name}": group
            for name, one in self.splits.items()
            for role, group in one.items()
        }
        return [name for name, group in {**self.parts, **roles}.items() if not group]


def read_fold_list(path_or_name: str | Path) -> FoldList:
    """A committed list by its name, or a json file.

    Raises CorpusError for a file that is missing or of another form, for a person of two parts, or
    of two roles of one split.
    """
    names = sorted(path.stem for path in FOLDS.glob("*.json"))
    path = FOLDS / f"{path_or_name}.json" if path_or_name in names else Path(path_or_name)
    where = f"folds '{path_or_name}'"
    try:
        found = _parse(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise CorpusError(f"{where}: no such file; committed ones are {', '.join(names)}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CorpusError(f"{where}: {_FORM}") from None
    if found.parts and len(found.parts) < 2:
        raise CorpusError(f"{where}: 1 part; at least 2 are needed")
    if empty := found.empty_groups():
        raise CorpusError(
            f"{where}: nobody is in {', '.join(empty)}; name subjects or leave it out"
        )
    refuse_overlap(found.parts, where)
    for name, roles in found.splits.items():
        refuse_overlap(roles, f"{where}, split '{name}'")
    return found


def _parse(body: Any) -> FoldList:
    """Raises ValueError, KeyError, TypeError or AttributeError for another form."""
    corpus = body["corpus"]
    if not isinstance(corpus, str) or ("parts" in body) == ("splits" in body):
        raise ValueError

    def persons(group: Any) -> list[Person]:
        if not isinstance(group, list) or not all(isinstance(one, str) for one in group):
            raise ValueError
        return [(corpus, subject) for subject in group]

    parts = {name: persons(group) for name, group in body.get("parts", {}).items()}
    splits = {
        name: {role: persons(group) for role, group in roles.items()}
        for name, roles in body.get("splits", {}).items()
    }
    for roles in splits.values():
        if not {"train", "test"} <= roles.keys() <= set(ROLES):
            raise ValueError
    if not parts and not splits:
        raise ValueError
    return FoldList(corpus, parts, splits)


def refuse_overlap(groups: Mapping[str, Sequence[Person]], where: str) -> None:
    """Raises CorpusError for a person who is in two groups, or in one twice."""
    homes: dict[Person, str] = {}
    for name, group in groups.items():
        for person in group:
            if (home := homes.get(person)) is not None:
                raise CorpusError(
                    f"{where}: {' '.join(person)} is in {home} and in {name}; a person may be in"
                    " one of them only"
                )
            homes[person] = name


def name_persons(persons: Sequence[Person], most: int = 8) -> str:
    """`bp4d F001, bp4d F002 and 3 more`, for messages."""
    names = ", ".join(" ".join(person) for person in persons[:most])
    return f"{names} and {len(persons) - most} more" if len(persons) > most else names or "nobody"
