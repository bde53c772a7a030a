"""A table of the paper with ours beside it, as Markdown, CSV, LaTeX and a picture."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from norface.evaluation.statistics import Interval
from norface.paper.compare import Block, Comparison, Line
from norface.paper.published import MEAN, PER_CENT
from norface.report.figures import COLOURS, INK, RULE
from norface.tracking import replacing

UNIT = {"mse": "intensities squared", "mae": "intensities", "icc": "ICC(3,1)"}
LABEL_WIDTH = 130
"Letters that stand side by side below a picture's bars."
Grid = list[list[str]]


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write FOLDER/NAME.md, .csv, .tex and .png; returns them. Raises CheckpointError."""
    paths = [folder / f"{comparison.name}.{ending}" for ending in ("md", "csv", "tex")]
    texts = [to_markdown(comparison), to_csv(comparison), to_latex(comparison)]
    for path, text in zip(paths, texts, strict=True):
        with replacing(path) as aside:
            aside.write_text(text, encoding="utf-8")
    picture = folder / f"{comparison.name}.png"
    with replacing(picture) as aside:
        draw_comparison(comparison).savefig(aside, format="png", dpi=150, bbox_inches="tight")
    return [*paths, picture]


def make_grid(block: Block) -> Grid:
    """Cells of a block, the header first.

    Units downwards and methods across where there are units, our column right of the paper's; else
    methods downwards, with paper, ours, interval and difference.
    """
    show = lambda value: "-" if value is None else f"{value:.{block.digits}f}"
    if block.is_wide:
        header, columns = [""], []
        for lines in block.rows():
            first = lines[0]
            if first.paper:
                header.append(f"{first.row} (paper)" if first.setting else first.row)
                columns.append([show(first.paper.get(column)) for column in block.columns])
            for line in lines if first.setting else []:
                ours, named = call_ours(block, line), name_row(line)
                remark = named.removeprefix(line.row)
                header.append(f"{ours}{remark}" if first.paper else f"{named} ({ours})")
                columns.append([show(line.ours.get(column)) for column in block.columns])
        rows = zip(block.columns, *columns, strict=True)
        return [header, *[list(row) for row in rows]]
    grid = [["", "paper"]]
    for protocol in block.protocols:
        grid[0] += [call_ours(block, protocol), "95 %", "difference"]
    for lines in block.rows():
        grid.append([name_row(*lines), show(lines[0].paper.get(MEAN))])
        by_protocol = {line.protocol: line for line in lines}
        for protocol in block.protocols:
            line = by_protocol.get(protocol, Line(lines[0].row, {}, {}))
            paper, value = line.paper.get(MEAN), line.ours.get(MEAN)
            both = paper is not None and value is not None
            grid[-1] += [
                show(value),
                show_interval(line, block.digits),
                f"{value - paper:+.{block.digits}f}" if both else "-",  # type: ignore[operator]
            ]
    return grid


def name_row(*lines: Line) -> str:
    """The row's name, and what our numbers in it are not."""
    remarks = list(dict.fromkeys(line.remark for line in lines if line.remark))
    return f"{lines[0].row} [{'; '.join(remarks)}]" if remarks else lines[0].row


def call_ours(block: Block, of: Line | str) -> str:
    """'this code', and by which protocol where there are several."""
    protocol = of if isinstance(of, str) else of.protocol
    return f"this code, {protocol} protocol" if len(block.protocols) > 1 else "this code"


def show_interval(line: Line, digits: int) -> str:
    """'61.0 to 70.2', or a dash."""
    if line.interval is None:
        return "-"
    return " to ".join(f"{edge:.{digits}f}" for edge in line.interval)


def show_gain(gain: Interval, digits: int) -> str:
    """'+2.1, 95 % by persons +0.4 to +3.9 (paired)'."""
    value, low, high = (f"{one:+.{digits}f}" for one in (gain.value, gain.low, gain.high))
    return f"{value}, 95 % by persons {low} to {high} (paired)"


def title_of(block: Block) -> str:
    """Experiment, metric and unit."""
    unit = "%" if block.metric in PER_CENT else UNIT[block.metric]
    return f"{block.experiment}: {block.metric}, {unit}"


def list_notes(block: Block) -> list[str]:
    """What exactly was compared in a block, and what is not there."""
    if not block.about and not any(line.why_absent for line in block.lines):
        return [f"not measured: no data given (experiments.{block.experiment}.shards=[...])"]
    notes = [f"{name}: {text}" for name, text in block.about.items()]
    intervals = [
        f"{line.row}: mean of {call_ours(block, line)} {line.ours[MEAN]:.{block.digits}f},"
        f" 95 % by persons {show_interval(line, block.digits)}"
        for line in block.lines
        if block.is_wide and line.interval and MEAN in line.ours
    ]
    gains = [
        f"{block.reference} minus {line.row}, {call_ours(block, line)}:"
        f" {show_gain(line.gain, block.digits)}"
        for line in block.lines
        if line.gain is not None
    ]
    absent = [
        f"{line.row}: {'' if len(block.protocols) == 1 else f'{line.protocol} protocol '}not run,"
        f" {line.why_absent}"
        for line in block.lines
        if line.why_absent
    ]
    return [*notes, *intervals, *gains, *absent]


def heading_of(comparison: Comparison) -> str:
    """Table 7: ..."""
    kind, number = ("Table", comparison.name.removeprefix("table"))
    if comparison.name.startswith("fig"):
        kind, number = "Figure", comparison.name.removeprefix("fig")
    where = f" (page {comparison.page})" if comparison.page else ""
    return f"{kind} {number}{where}: {comparison.title}"


def to_markdown(comparison: Comparison) -> str:
    """The whole table with its notes."""
    parts = [f"# {heading_of(comparison)}"]
    for block in comparison.blocks:
        grid = make_grid(block)
        rule = ["---", *["---:"] * (len(grid[0]) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (grid[0], rule, *grid[1:])]
        notes = [f"- {note}" for note in list_notes(block)]
        parts.append("\n".join([f"## {title_of(block)}", "", *lines, "", *notes]))
    if comparison.notes:
        parts.append("\n".join(["## Notes", "", *[f"- {note}" for note in comparison.notes]]))
    return "\n\n".join(parts) + "\n"


def to_csv(comparison: Comparison) -> str:
    """One line a number."""
    records = list(comparison.records())
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in record.items()})
    return buffer.getvalue()


def to_latex(comparison: Comparison) -> str:
    """One table environment a block; no package is needed."""
    parts = [f"% {heading_of(comparison)}"]
    for block in comparison.blocks:
        grid = make_grid(block)
        body = [" & ".join(map(escape_latex, row)) + r" \\" for row in grid]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{escape_latex(heading_of(comparison))}."
                    rf" {escape_latex(title_of(block))}.}}",
                    rf"\begin{{tabular}}{{l{'r' * (len(grid[0]) - 1)}}}",
                    r"\hline",
                    body[0],
                    r"\hline",
                    *body[1:],
                    r"\hline",
                    r"\end{tabular}",
                    *[f"% {note}" for note in list_notes(block)],
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    """Text as LaTeX shows it."""
    for sign in "&%_#":
        text = text.replace(sign, rf"\{sign}")
    return text


def draw_comparison(comparison: Comparison) -> Figure:
    """Bars, the paper's grey beside ours: units of our rows, or a pair a row with our intervals."""
    blocks = comparison.blocks
    figure = Figure(figsize=(9.0, 2.0 * len(blocks)), layout="constrained")
    for block, axes in zip(
        blocks, figure.subplots(len(blocks), 1, squeeze=False)[:, 0], strict=True
    ):
        ours = [line for line in block.lines if line.setting]
        intervals: dict[str, list[tuple[float, float] | None]] = {}
        if block.is_wide:
            labels = block.columns
            bars = {}
            for line in ours:
                bars[f"{line.row}, paper"] = [line.paper.get(column) for column in labels]
                named = f"{name_row(line)}, {call_ours(block, line)}"
                bars[named] = [line.ours.get(column) for column in labels]
        else:
            rows = block.rows()
            labels = [wrap_name(name_row(*lines), LABEL_WIDTH // len(rows)) for lines in rows]
            bars = {"paper": [lines[0].paper.get(MEAN) for lines in rows]}
            for protocol in block.protocols:
                found = [next((x for x in lines if x.protocol == protocol), None) for lines in rows]
                name = call_ours(block, protocol)
                bars[name] = [line.ours.get(MEAN) if line else None for line in found]
                intervals[name] = [line.interval if line else None for line in found]
        draw_bars(axes, labels, bars, intervals)
        axes.set_title(title_of(block), loc="left", fontsize=10, color=INK)
    figure.suptitle(heading_of(comparison), x=0.01, ha="left", fontsize=12, color=INK)
    return figure


def wrap_name(name: str, width: int) -> str:
    """A row's name in lines of some `width` letters; what is in brackets begins a line."""
    parts = name.replace(" [", "\n[").splitlines()
    wrapper = textwrap.TextWrapper(max(width, 8), break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrapper.fill, parts))


def draw_bars(
    axes: Axes,
    labels: Sequence[str],
    bars: Mapping[str, Sequence[float | None]],
    intervals: Mapping[str, Sequence[tuple[float, float] | None]],
) -> None:
    """Groups of bars with their numbers and intervals; what is absent leaves its place empty."""
    there = {name: values for name, values in bars.items() if any(v is not None for v in values)}
    width = 0.8 / max(len(there), 1)
    ours = [name for name in there if not name.endswith("paper")]
    greys = zip((name for name in there if name not in ours), (COLOURS[0], "#b9bdc5"), strict=False)
    colours = dict.fromkeys(there, COLOURS[0]) | dict(greys)
    colours |= dict(zip(ours, COLOURS[1:], strict=False))
    for number, (name, values) in enumerate(there.items()):
        for place, value in enumerate(values):
            if value is None:
                continue
            x = place + (number - (len(there) - 1) / 2) * width
            label = (
                name if place == next(i for i, v in enumerate(values) if v is not None) else None
            )
            axes.bar(x, value, width * 0.92, color=colours[name], label=label)
            text = f"{value:.2f}" if value < 10 else f"{value:.1f}"
            top = value
            if edges := intervals.get(name, [None] * len(values))[place]:
                axes.vlines(x, *edges, color=INK, linewidth=0.9)
                top = max(value, edges[1])
            axes.text(x, top, text, ha="center", va="bottom", fontsize=6, color=INK)
    axes.set_xticks(range(len(labels)), labels, fontsize=7)
    axes.margins(y=0.15)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    if there:
        axes.legend(
            frameon=False, fontsize=7, ncols=len(there), loc="lower right",
            bbox_to_anchor=(1, 1), borderaxespad=0,
        )  # fmt: skip
