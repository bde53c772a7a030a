"""The numbers that the paper prints, as data: norface/paper/published/NAME.csv, one row a method.

experiment  corpus, or what is done with it: bp4d, bp4d-intensity, bp4d-to-bp4dplus
metric      f1, accuracy (per cent), icc, mse, mae
row         the method as the paper calls it, with its citation
AU1 ...     per action unit; empty where the paper has no number
Avg.        the paper's mean, or the only number of the row
delta       the paper's difference from the first row of the experiment, in some tables

The paper contradicts itself here and there: slips.csv lists where a printed mean or difference is
not what its row gives, twins.csv where two methods have the same numbers, the notes of tables.yaml
the rest.
"""

from __future__ import annotations

import csv
import dataclasses
from decimal import Decimal
from pathlib import Path
from typing import Any

from norface.config import read_yaml
from norface.errors import ConfigError

FOLDER = Path(__file__).parent / "published"
MEAN, DELTA = "Avg.", "delta"
PER_CENT = ("f1", "accuracy")
"Metrics that the paper prints in per cent; the others are in their own units."


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """One method's numbers, as printed."""

    experiment: str
    metric: str
    row: str
    values: dict[str, Decimal]
    "Column => number; columns without one are absent."

    @property
    def units(self) -> dict[str, Decimal]:
        """The numbers of single action units."""
        return {name: value for name, value in self.values.items() if name.startswith("AU")}


@dataclasses.dataclass(frozen=True)
class PublishedTable:
    """A table or figure of the paper."""

    name: str
    title: str
    page: int | None
    note: str
    rows: list[PublishedRow]

    @property
    def experiments(self) -> list[str]:
        """What was measured, in the paper's order."""
        return list(dict.fromkeys(row.experiment for row in self.rows))

    def of(self, experiment: str, metric: str | None = None) -> list[PublishedRow]:
        """The rows of an experiment, and of a metric where one is named."""
        return [
            row
            for row in self.rows
            if row.experiment == experiment and metric in (None, row.metric)
        ]


@dataclasses.dataclass(frozen=True)
class Slip:
    """A printed number that is not what its row gives."""

    table: str
    experiment: str
    metric: str
    row: str
    column: str
    printed: Decimal
    computed: Decimal


def list_tables() -> list[str]:
    """Names of all tables, in the paper's order."""
    return list(read_yaml(FOLDER / "tables.yaml"))


def load_table(name: str) -> PublishedTable:
    """A table by its name. Raises ConfigError listing the names there are."""
    about: dict[str, Any] = read_yaml(FOLDER / "tables.yaml")
    if name not in about:
        raise ConfigError(f"'{name}' is no table with numbers; there are: {', '.join(about)}")
    rows = []
    with open(FOLDER / f"{name}.csv", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            first = (line.pop("experiment"), line.pop("metric"), line.pop("row"))
            values = {column: Decimal(text) for column, text in line.items() if text}
            rows.append(PublishedRow(*first, values))
    facts = about[name]
    return PublishedTable(name, facts["title"], facts["page"], facts.get("note", ""), rows)


def find_slips(table: PublishedTable) -> list[Slip]:
    """Means and differences that are further off than rounding of the printed digits explains."""
    found = []
    for row in table.rows:
        printed = row.values[MEAN]
        if row.units:
            mean = sum(row.units.values(), Decimal(0)) / len(row.units)
            # As printed: half a unit of the last digit, either way.
            if abs(mean - printed) > Decimal(5).scaleb(_exponent(printed) - 1):
                found.append(_slip(table, row, MEAN, printed, mean))
        if DELTA in row.values:
            first = table.of(row.experiment)[0]
            difference = printed - first.values[MEAN]
            if difference != row.values[DELTA]:
                found.append(_slip(table, row, DELTA, row.values[DELTA], difference))
    return found


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


def _slip(
    table: PublishedTable, row: PublishedRow, column: str, printed: Decimal, computed: Decimal
) -> Slip:
    return Slip(table.name, row.experiment, row.metric, row.row, column, printed, computed)


def find_twins(table: PublishedTable) -> list[tuple[str, str, str, str]]:
    """(experiment, metric, row, other) of rows whose units all have the same numbers."""
    found = []
    for number, row in enumerate(table.rows):
        for other in table.rows[number + 1 :]:
            same = (row.experiment, row.metric) == (other.experiment, other.metric)
            if same and row.units and row.units == other.units:
                found.append((row.experiment, row.metric, row.row, other.row))
    return found


def read_notes(table: str) -> list[str]:
    """The committed list of the paper's slips in one table, as sentences."""
    notes = []
    with open(FOLDER / "slips.csv", encoding="utf-8", newline="") as file:
        notes += [
            f"{line['row']} on {line['experiment']} ({line['metric']}): the paper prints"
            f" {line['printed']} as {line['column']}; its row gives {line['computed']}."
            for line in csv.DictReader(file)
            if line["table"] == table
        ]
    with open(FOLDER / "twins.csv", encoding="utf-8", newline="") as file:
        notes += [
            f"{line['row']} and {line['other']} on {line['experiment']} ({line['metric']}) have the"
            " same numbers in the paper."
            for line in csv.DictReader(file)
            if line["table"] == table
        ]
    return notes
