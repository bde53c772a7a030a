"""Read every sample of a folder of shards: counts, subjects, label rates, and what is damaged.

Ends with 0 for sound shards and with 1 when anything is damaged, missing or there twice.

Example:
  norface check shards
  norface check shards --json | jq .presence
  norface check shards --rebuild-index     write index.parquet again from the tars, then check
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from norface.data.checking import ShardReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "shards", type=Path, metavar="SHARDS", help="folder of tars and their index"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as json")
    parser.add_argument(
        "--rebuild-index", action="store_true", help="write index.parquet from the tars first"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check, print; 1 when something is damaged."""
    from norface.data.checking import check_shards
    from norface.data.shards import list_shards, write_index
    from norface.progress import Progress

    if arguments.rebuild_index:
        write_index(arguments.shards)
    with Progress("check", total=len(list_shards(arguments.shards)), unit="shard") as progress:
        report = check_shards(arguments.shards, progress.advance)
    print(report.model_dump_json(indent=2) if arguments.json else format_report(report))
    return 1 if report.problems else 0


def format_report(report: ShardReport, most: int = 20) -> str:
    """The findings as a table for a person; at most `most` problems are listed."""
    subjects = ", ".join(f"{count} of {corpus}" for corpus, count in report.subjects.items())
    lines = [
        f"{report.folder}: {report.samples} samples in {report.shards} shards,"
        f" {report.bytes / 1e6:.1f} MB, pictures of {report.side or 'unknown'} pixels",
        f"subjects: {subjects or 'none'}"
        + "".join(
            f", {low} to {high} samples each"
            for low, high in [report.samples_per_subject or (0, 0)]
        ),
    ]
    for name, counts in (("splits", report.splits), ("emotions", report.emotions)):
        if counts:
            text = ", ".join(f"{key} {count}" for key, count in counts.items())
            lines.append(f"{name}: {text}")
    for name, units in (("present", report.presence), ("intensity >= 1", report.intensity)):
        if units:
            lines += ["", f"{'unit':<6}{'labelled':>10}{name:>16}{'rate':>8}"]
            lines += [
                f"{f'AU{unit}':<6}{one.labelled:>10}{one.positive:>16}{one.rate:>8.3f}"
                for unit, one in units.items()
            ]
    lines.append("")
    if report.same_pictures:
        lines.append(f"{report.same_pictures} pictures are byte for byte those of earlier samples")
    if report.unfinished:
        lines.append(f"unfinished files of another run: {', '.join(report.unfinished)}")
    for one in report.problems[:most]:
        lines.append(f"damaged: {one.file}: {one.key + ': ' if one.key else ''}{one.what}")
    if len(report.problems) > most:
        lines.append(f"... and {len(report.problems) - most} more (--json lists all)")
    lines.append(
        f"{len(report.problems)} problems" if report.problems else "sound: no problems found"
    )
    return "\n".join(lines)
