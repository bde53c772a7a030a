"""The paper's rows and ours side by side: what a table is made of before it is drawn."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from norface.config import Config, load_config
from norface.errors import ConfigError
from norface.evaluation.statistics import Interval
from norface.paper.config import PaperConfig
from norface.paper.experiments import (
    STAND_INS,
    Outcome,
    list_stand_ins,
    run_experiment,
    scale_of,
    task_of,
)
from norface.paper.pairs import difference, interval
from norface.paper.published import (
    DELTA,
    MEAN,
    PublishedRow,
    PublishedTable,
    load_table,
    read_notes,
)

DIGITS = {"f1": 1, "accuracy": 2, "icc": 2, "mse": 2, "mae": 2}
"Digits behind the point, as the paper prints them."
REFERENCE = "norface"
"The setting that the others are compared with, person by person."


class TableSpec(Config):
    """configs/paper/NAME.yaml."""

    rows: dict[str, str]
    "Row of the paper => setting of settings.yaml that reproduces it."
    units: list[str] | None = None
    "Action units of the stand-in's rows too, where the table has not all; null = all."
    notes: list[str] = []
    "What a reader must know of how we read the paper here."


@dataclasses.dataclass(frozen=True)
class Line:
    """One method: the paper's numbers, ours by one protocol, or both."""

    row: str
    paper: dict[str, float]
    "Column => the paper's number."
    ours: dict[str, float]
    "Column => ours."
    interval: tuple[float, float] | None = None
    "95 % of our mean."
    setting: str | None = None
    "Which of our settings this is; None = somebody else's method."
    why_absent: str = ""
    "Why we have no number where a setting is named."
    remark: str = ""
    "What our number is not, where the row's name says more than was measured."
    gain: Interval | None = None
    "What the setting `norface` has more than this one, on the same draws of persons."
    protocol: str = ""
    "Protocol of our number; '' = there is none of ours."


@dataclasses.dataclass(frozen=True)
class Block:
    """One experiment and metric of a table."""

    experiment: str
    metric: str
    columns: list[str]
    "Action units, then Avg."
    lines: list[Line]
    about: dict[str, str]
    "What exactly we measured."
    reference: str = ""
    "The row that gains are of; empty = none of ours is norface."

    @property
    def protocols(self) -> list[str]:
        """Protocols of our numbers; [''] where there are none."""
        named = [line.protocol for line in self.lines if line.protocol]
        return list(dict.fromkeys(named)) or [""]

    def rows(self) -> list[list[Line]]:
        """The lines of each row together: one a protocol."""
        return [list(some) for _, some in itertools.groupby(self.lines, lambda line: line.row)]

    @property
    def digits(self) -> int:
        """Digits behind the point."""
        return DIGITS.get(self.metric, 2)

    @property
    def is_wide(self) -> bool:
        """Whether there are numbers of single units."""
        return len(self.columns) > 1


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A table of the paper with our numbers."""

    name: str
    title: str
    page: int | None
    blocks: list[Block]
    notes: list[str]

    def records(self) -> Iterator[dict[str, Any]]:
        """One a number, for CSV and for metrics."""
        for block in self.blocks:
            for line in block.lines:
                for column in block.columns:
                    paper, ours = line.paper.get(column), line.ours.get(column)
                    difference = None if paper is None or ours is None else ours - paper
                    low, high = line.interval if line.interval and column == MEAN else (None, None)
                    gain = line.gain.as_dict() if line.gain and column == MEAN else {}
                    yield {
                        "table": self.name,
                        "experiment": block.experiment,
                        "metric": block.metric,
                        "row": line.row,
                        "column": column,
                        "paper": paper,
                        "ours": ours,
                        "low": low,
                        "high": high,
                        "difference": difference,
                        "setting": line.setting,
                        "protocol": line.protocol,
                        "norface_minus": gain.get("value"),
                        "norface_minus_low": gain.get("low"),
                        "norface_minus_high": gain.get("high"),
                        "remark": line.remark,
                    }


def read_spec(config: PaperConfig, name: str) -> TableSpec:
    """Which settings stand for the rows. Raises ConfigError where the file is not there."""
    path = config.configs / "paper" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"{path}: not there; start norface in the project's folder or give configs=FOLDER"
        )
    return load_config(TableSpec, path)


def compare_table(config: PaperConfig, name: str) -> Comparison:
    """Measure what a table needs on every corpus that is there. Raises NorfaceError."""
    published, spec = load_table(name), read_spec(config, name)
    unknown = set(spec.rows) - {row.row for row in published.rows}
    if unknown and published.name != "fig7":
        raise ConfigError(f"configs/paper/{name}.yaml: the paper has no row '{min(unknown)}'")
    known = [*known_experiments(), *STAND_INS]
    unknown_places = sorted(place for place in config.experiments if place not in known)
    if unknown_places:
        raise ConfigError(
            f"experiments: the paper has no '{unknown_places[0]}'; there are: {', '.join(known)}"
        )
    blocks = []
    for experiment in published.experiments:
        outcome = None
        if experiment in config.experiments:
            task = task_of(published.of(experiment)[0].metric)
            outcome = run_experiment(config, experiment, task, list(spec.rows.values()))
        for metric in dict.fromkeys(row.metric for row in published.of(experiment)):
            blocks.append(make_block(published, spec, experiment, metric, outcome))
    notes = [*spec.notes, published.note, *read_notes(name)]
    for experiment, task in list_stand_ins(config, published).items():
        outcome = run_experiment(config, experiment, task, list(spec.rows.values()))
        for metric in dict.fromkeys(r.metric for r in published.rows if task_of(r.metric) == task):
            blocks.append(make_block(published, spec, experiment, metric, outcome))
    return Comparison(name, published.title, published.page, blocks, [n for n in notes if n])


def known_experiments() -> list[str]:
    """Every experiment of the paper that has numbers."""
    from norface.paper.published import list_tables

    names = [name for table in list_tables() for name in load_table(table).experiments]
    return list(dict.fromkeys(names))


def make_block(
    published: PublishedTable,
    spec: TableSpec,
    experiment: str,
    metric: str,
    outcome: Outcome | None,
) -> Block:
    """The lines of one experiment and metric: the paper's rows, then rows that only we have."""
    rows = {row.row: row for row in published.of(experiment, metric)}
    lines = [
        line
        for name in [*rows, *(name for name in spec.rows if name not in rows)]
        for line in _make_lines(name, rows.get(name), spec.rows.get(name), metric, outcome, spec)
    ]
    wide = any(row.units for row in published.rows)
    columns = list(dict.fromkeys(c for line in lines for c in (*line.paper, *line.ours)))
    units = sorted((c for c in columns if c.startswith("AU")), key=lambda c: int(c[2:]))
    shown = [*units, MEAN] if wide else [MEAN]
    reference = next((name for name, setting in spec.rows.items() if setting == REFERENCE), "")
    about = dict(outcome.about) if outcome else {}
    return Block(experiment, metric, shown, lines, about, reference)


def _make_lines(
    name: str,
    row: PublishedRow | None,
    setting: str | None,
    metric: str,
    outcome: Outcome | None,
    spec: TableSpec,
) -> list[Line]:
    """A row of the table: one line, or one a protocol that was measured."""
    values = {} if row is None else row.values
    paper = {column: float(value) for column, value in values.items() if column != DELTA}
    line = Line(name, paper, {}, setting=setting)
    if setting is None or outcome is None:
        return [line]
    wanted = list(row.units) if row is not None else spec.units or []
    references = outcome.variants(REFERENCE)
    return [
        _fill_line(
            dataclasses.replace(line, setting=variant, protocol=protocol),
            wanted, references[protocol], metric, outcome,
        )
        for protocol, variant in outcome.variants(setting).items()
    ]  # fmt: skip


def _fill_line(
    line: Line, wanted: list[str], reference: str, metric: str, outcome: Outcome
) -> Line:
    """Our numbers of the line's setting, over the wanted units where we have only some of all."""
    setting = line.setting
    assert setting is not None
    remark = outcome.remarks.get(setting, "")
    if setting not in outcome.settings:
        return dataclasses.replace(line, why_absent=outcome.absent.get(setting, "not run"))
    found = outcome.settings[setting]
    ours = found.values[metric]
    # Some tables average over some of the units only (Table 10): so must we.
    kept = [unit for unit in wanted if unit in ours]
    if wanted and not kept:
        why = f"none of {', '.join(wanted)} is measured"
        return dataclasses.replace(line, why_absent=why)
    if len(kept) < len(wanted) and line.paper:
        few = f"Avg. of {len(kept)} of the paper's {len(wanted)} units"
        remark = f"{remark}; {few}" if remark else few
    some = kept if 0 < len(kept) < sum(column.startswith("AU") for column in ours) else None
    if some:
        chosen = {unit: ours[unit] for unit in some}
        ours = {**chosen, MEAN: sum(chosen.values()) / len(chosen)}
    line = dataclasses.replace(line, ours=ours, remark=remark)
    if metric != found.summary["metric"]:
        return line
    one, best = outcome.draws[setting], outcome.draws.get(reference)
    between = scale(interval(one, some), metric)
    gain = None if best is None or best is one else scale(difference(best, one, some), metric)
    return dataclasses.replace(line, interval=(between.low, between.high), gain=gain)


def scale(found: Interval, metric: str) -> Interval:
    """An interval in the paper's units."""
    by = scale_of(metric)
    return Interval(by * found.value, by * found.low, by * found.high)


def write_json(comparison: Comparison, path: Path) -> None:
    """All numbers, for programs."""
    path.write_text(json.dumps(list(comparison.records()), indent=1) + "\n", encoding="utf-8")
