"""The paper's user study (A2, beside Figure 5) and a measure of the same thing.

The paper asked 100 volunteers how far 50 normalized pictures keep the original's expression, 0..5,
and compared the marks by a paired t-test (published/fig5-study.csv). Here a reader of expressions
that no loss uses takes the volunteers' place: its distance between original and normalized face,
0 = kept, and persons' means are the pairs, as in `norface evaluate normalization`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from norface.data.shards import ShardIndex
from norface.errors import CorpusError, NorfaceError
from norface.evaluation.normalization_faces import sample_rows
from norface.evaluation.paired_tests import paired_test
from norface.evaluation.resampling import mean_terms, ratio, sum_by_person
from norface.evaluation.unit_readers import UnitReader, choose_reader
from norface.images import resize_pixels
from norface.paper.config import PaperConfig
from norface.paper.faces import TRUE_FACES, Faces, choose_faces, read_faces
from norface.paper.published import FOLDER
from norface.tracking import replacing

FACES, BATCH = 400, 64
"Originals that are read, evenly from all persons; and at once."
OURS = "Norface"
COLUMNS = ("method", "paper_mark", "paper_sd", "paper_t", "paper_df", "paper_p",
           "distance", "sd", "t", "df", "p")  # fmt: skip
Pictures = Sequence[np.ndarray | None]


class Mark(NamedTuple):
    """What the volunteers said of one method, as printed; t is ours against it."""

    row: str
    mean: str
    sd: str
    t: str
    df: str
    p: str


def load_study() -> list[Mark]:
    """The paper's numbers, its own method first."""
    with open(FOLDER / "fig5-study.csv", encoding="utf-8", newline="") as file:
        return [Mark(**line) for line in csv.DictReader(file)]


def write_study(config: PaperConfig, experiment: str) -> list[Path]:
    """OUT/fig5-EXPERIMENT.csv and .md: the paper's marks, and the measure of what is given here."""
    faces = choose_all(config, experiment)
    try:
        found, note = measure_study(faces, read_methods(faces))
    except NorfaceError as error:
        found, note = {}, f"not measured here: {error}"
    lines = tabulate_study(found)
    paths = [config.out / f"fig5-{experiment}.{ending}" for ending in ("csv", "md")]
    with replacing(paths[0]) as aside, open(aside, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    with replacing(paths[1]) as aside:
        aside.write_text(to_markdown(experiment, lines, note), encoding="utf-8")
    return paths


def choose_all(config: PaperConfig, experiment: str) -> Faces:
    """The originals that are read."""
    place = config.experiments[experiment]
    index = ShardIndex.open(place.shards[0])
    keys = [index.key_of(int(row)) for row in sample_rows(index, FACES)]
    return choose_faces(config, experiment, place, keys)


def read_methods(faces: Faces) -> dict[str, Pictures]:
    """Method => its pictures of the originals, ours first where there are some."""
    place = faces.place
    ours = faces.of({OURS: place.sets.get("norface", [])[:1]})
    found: dict[str, Pictures] = {OURS: ours[0][1][1:]} if ours else {}
    return found | {name: read_faces(folder, faces.keys) for name, folder in place.others.items()}


def measure_study(
    faces: Faces, methods: Mapping[str, Pictures]
) -> tuple[dict[str, dict[str, float]], str]:
    """Method => {"distance", "sd" (over persons), "t", "df", "p" (against ours)}, and who measured
    what. Only originals of which every method has a picture count. Raises WeightsError, and
    CorpusError where there is no such original."""
    index = ShardIndex.open(faces.place.shards[0])
    originals = faces.originals()
    together = zip(originals, *methods.values(), strict=True)
    rows = [place for place, each in enumerate(together) if all(one is not None for one in each)]
    if not rows:
        raise CorpusError("no original has a picture of every method")
    reader = choose_reader("auto", {corpus for corpus, _ in index.persons})
    before = read_expressions(reader, [originals[row] for row in rows], index.side)
    table = index.table.iloc[index.rows_of([faces.keys[row] for row in rows])]
    names = (table["corpus"].astype(str) + "/" + table["subject"].astype(str)).to_numpy()
    persons, person = np.unique(names, return_inverse=True)
    means = {}
    for name, pictures in methods.items():
        after = read_expressions(reader, [pictures[row] for row in rows], index.side)
        apart = np.linalg.norm(after - before, axis=1)
        means[name] = ratio(sum_by_person(mean_terms(apart), person))
    found = {}
    for name, each in means.items():
        spread = float(each.std(ddof=1)) if len(each) > 1 else float("nan")
        found[name] = {"distance": float(each.mean()), "sd": spread}
        if OURS in means and name != OURS:
            test = paired_test(means[OURS], each)
            found[name] |= {part: test[part] for part in ("t", "df", "p")}
    note = f"measured on {len(rows)} faces of {len(persons)} persons; reader: {reader.name}"
    if faces.is_truth(faces.place.sets.get("norface", [])[:1]):
        note += f"; {OURS}: {TRUE_FACES}"
    return found, note


def read_expressions(reader: UnitReader, pictures: Pictures, side: int) -> np.ndarray:
    """What the reader says of each picture's expression; pictures are brought to one side."""
    known = [resize_pixels(one, side) for one in pictures if one is not None]
    parts = [
        reader.read(np.stack(known[start : start + BATCH])).expression
        for start in range(0, len(known), BATCH)
    ]
    return np.concatenate(parts)


def tabulate_study(found: Mapping[str, Mapping[str, float]]) -> list[dict[str, object]]:
    """A line a method of the paper's, then those that only we have."""
    left, lines = dict(found), []
    for mark in load_study():
        name = next((one for one in left if mark.row.lower().startswith(one.lower())), None)
        ours = left.pop(name) if name is not None else {}
        printed = dict(zip(COLUMNS, (mark.row, *mark[1:]), strict=False))
        lines.append({**printed, **ours})
    return [*lines, *({"method": name, **ours} for name, ours in left.items())]


def to_markdown(experiment: str, lines: Sequence[Mapping[str, object]], note: str) -> str:
    """The table and what the two measures are."""

    def show(line: Mapping[str, object], column: str) -> str:
        value = line.get(column, "")
        if isinstance(value, float):
            return "-" if np.isnan(value) else f"{value:.3g}"
        return str(value) or "-"

    header = ["method", "paper: mark", "SD", "t", "df", "p", "this code: distance", "SD", "t",
              "df", "p"]  # fmt: skip
    grid = [header, ["---", *["---:"] * (len(header) - 1)]]
    grid += [[show(line, column) for column in COLUMNS] for line in lines]
    rows = ["| " + " | ".join(row) + " |" for row in grid]
    notes = [
        "paper: marks 0..5 of 100 volunteers for 50 pictures (5 = expression kept); t of ours"
        " against the method",
        "this code: distance of what a reader says of original and normalized face (0 = kept),"
        " mean of persons' means; t of the method less ours, above 0 = ours is nearer",
        note,
    ]
    head = f"# Figure 5, {experiment}: is the expression kept?"
    return "\n".join([head, "", *rows, "", *[f"- {one}" for one in notes if one]]) + "\n"
