"""How often each label comes, in all samples and in each part that is trained or tested on."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from norface.config import Config
from norface.data.fold_lists import FOLDS, read_fold_list
from norface.data.indexing import LABELS
from norface.data.labels import EMOTIONS, unit_name


class UnitCounts(Config):
    """Labels of one action unit. Unlabelled samples are in none of the numbers."""

    labelled: int
    positive: int
    "Samples where it is present, or of intensity >= 1."
    rate: float
    "positive / labelled."


class Labels(Config):
    """Counts of some samples and of their labels."""

    samples: int
    subjects: int
    emotions: dict[str, int] = {}
    presence: dict[int, UnitCounts] = {}
    intensity: dict[int, UnitCounts] = {}


class Parts(Config):
    """The samples of each part of a corpus, and who is in none."""

    parts: dict[str, Labels] = {}
    """test=NAME => the test part of a committed fold; where a corpus has none, SPLIT => a part that
    the corpus itself names (train, test). Of several corpora, each name follows its corpus's."""
    unlisted: list[str] = []
    "Subjects that the committed folds do not know: they are in no fold."
    absent: list[str] = []
    "Subjects of the committed folds of which there is no sample."


def count_labels(table: pd.DataFrame) -> Labels:
    """Count the rows of an index."""
    found = table["emotion"].value_counts()
    units: dict[str, dict[int, UnitCounts]] = {"au": {}, "intensity": {}}
    for name in table.columns[table.columns.str.startswith(LABELS)]:
        kind, unit = name.split("_")
        values = table[name].dropna().to_numpy()
        if not len(values):
            # A part of a table has the columns of the whole: others were coded for this unit.
            continue
        positive = int((values >= 1).sum())
        units[kind][int(unit)] = UnitCounts(
            labelled=len(values), positive=positive, rate=positive / len(values)
        )
    return Labels(
        samples=len(table),
        subjects=len(table[["corpus", "subject"]].drop_duplicates()),
        emotions={name: int(found[name]) for name in EMOTIONS if found.get(name, 0)},
        presence=units["au"],
        intensity=units["intensity"],
    )


def count_subjects(table: pd.DataFrame) -> tuple[dict[str, int], list[int]]:
    """(corpus => subjects, [fewest, most] samples of a subject, [] without any) of an index."""
    sizes = table.groupby(["corpus", "subject"], observed=True).size()
    of_corpus = sizes.groupby("corpus", observed=True).size().to_dict()
    return of_corpus, [int(sizes.min()), int(sizes.max())] if len(sizes) else []


def count_splits(table: pd.DataFrame) -> dict[str, int]:
    """Official part, "(none)" where there is none => samples."""
    return {name or "(none)": int(n) for name, n in table["split"].value_counts().items() if n}


def count_parts(table: pd.DataFrame) -> Parts:
    """Count the rows of an index by the parts of every corpus in it."""
    corpora = sorted(table["corpus"].astype(str).unique())
    parts: dict[str, Labels] = {}
    unlisted: list[str] = []
    absent: list[str] = []
    for corpus in corpora:
        rows = table[table["corpus"] == corpus]
        before = f"{corpus} " if len(corpora) > 1 else ""
        if (FOLDS / f"{corpus}.json").is_file():
            folds = read_fold_list(corpus)
            there = set(rows["subject"].astype(str).unique())
            listed = {subject for _, subject in folds.persons}
            for name, group in folds.tested.items():
                some = rows[rows["subject"].isin([subject for _, subject in group])]
                parts[f"{before}test={name}"] = count_labels(some)
            unlisted += [before + subject for subject in sorted(there - listed)]
            absent += [before + subject for subject in sorted(listed - there)]
        else:
            splits = rows["split"].astype(str)
            for name in sorted(set(splits) - {""}, key=_official_order):
                parts[before + name] = count_labels(rows[splits == name])
    return Parts(parts=parts, unlisted=unlisted, absent=absent)


def _official_order(split: str) -> tuple[int, str]:
    known = ("train", "validation", "test")
    return (known.index(split) if split in known else len(known), split)


def format_parts(found: Parts, most: int) -> list[str]:
    """A line for each part, and for subjects without one; at most `most` of these are named."""
    lines = [
        f"{name}: {part.samples} samples of {part.subjects} subjects"
        for name, part in found.parts.items()
    ]
    for what, names in (
        ("in no fold", found.unlisted),
        ("of the folds without a sample", found.absent),
    ):
        if names:
            text = ", ".join(names[:most])
            more = f" and {len(names) - most} more" if len(names) > most else ""
            lines.append(f"{len(names)} subjects {what}: {text}{more}")
    return lines


def format_rates(everything: Labels, parts: Mapping[str, Labels]) -> list[str]:
    """A table for a person: how many labels, and their rates in all samples and in each part."""
    groups = {"all": everything, **parts}
    width = max(12, *(len(name) + 2 for name in groups))
    head = "".join(f"{name:>{width}}" for name in groups)
    lines: list[str] = []

    def add(title: str, labelled: int, rates: list[float | None]) -> None:
        cells = (f"{'-':>{width}}" if rate is None else f"{rate:>{width}.3f}" for rate in rates)
        lines.append(f"{title:<16}{labelled:>10}{''.join(cells)}")

    for title, kind in (("present", "presence"), ("intensity >= 1", "intensity")):
        units: dict[int, UnitCounts] = getattr(everything, kind)
        if units:
            lines += ["", f"{title:<16}{'labelled':>10}{head}"]
        for unit, counts in units.items():
            of_groups = (getattr(group, kind).get(unit) for group in groups.values())
            rates = [one.rate if one else None for one in of_groups]
            add(unit_name(unit), counts.labelled, rates)
    if everything.emotions:
        lines += ["", f"{'emotion':<16}{'labelled':>10}{head}"]
    totals = [sum(group.emotions.values()) for group in groups.values()]
    for emotion, number in everything.emotions.items():
        shares = [
            group.emotions.get(emotion, 0) / total if total else None
            for group, total in zip(groups.values(), totals, strict=True)
        ]
        add(emotion, number, shares)
    return lines
