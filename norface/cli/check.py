"""What shards, or a corpus as it was handed out, hold and what is wrong with them.

`norface check SHARDS` reads every sample of a folder of shards: counts, subjects, label rates, and
what is damaged. `norface check CORPUS ROOT` reads a corpus in its official layout: counts against
the published ones, pictures that are missing (with --decode: damaged or there twice), rows that
cannot be used. Both give label rates of all samples and of each part: the test parts of the
committed folds and subjects that are in none, or the corpus's own train and test parts. Both say
where the faces are a rehearsal's (`norface synth --layout`), not the corpus's.

Ends with 0 for what is sound and with 1 when anything is damaged, missing or there twice by key.

Example:
  norface check shards
  norface check shards --json | jq .all.presence
  norface check shards --rebuild-index     write index.parquet again from the tars, then check
  norface check folder photos labels=labels.csv --decode --workers 4
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from norface.data.corpora.base import READERS
from norface.errors import ConfigError

if TYPE_CHECKING:
    from norface.data.checking import ShardReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "target",
        metavar="SHARDS|CORPUS",
        help=f"folder of tars and their index; or a layout: {', '.join(READERS)}",
    )
    parser.add_argument("root", nargs="?", type=Path, metavar="ROOT", help="folder of the corpus")
    parser.add_argument(
        "options", nargs="*", metavar="key=value", help="settings of the corpus's reader"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as json")
    parser.add_argument(
        "--rebuild-index", action="store_true", help="write index.parquet from the tars first"
    )
    parser.add_argument("--decode", action="store_true", help="decode every picture of the corpus")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Check, print; 1 when something is damaged."""
    if (
        arguments.root is None
        and arguments.target in READERS
        and not Path(arguments.target).is_dir()
    ):
        raise ConfigError(
            f"corpus {arguments.target}: give its folder, too: {arguments.target} ROOT"
        )
    return run_corpus(arguments) if arguments.root is not None else run_shards(arguments)


def run_corpus(arguments: argparse.Namespace) -> int:
    """Check a corpus in its official layout."""
    from norface.data.corpora.base import open_corpus
    from norface.data.corpus_check import check_corpus
    from norface.data.corpus_report import format_report
    from norface.progress import Progress

    if arguments.rebuild_index:
        raise ConfigError("--rebuild-index is for shards; a corpus has no index")
    reader = open_corpus(arguments.target, arguments.root, arguments.options)
    total = max(reader.published.get("samples", 0), 0)
    with Progress("check", total=total, unit="sample") as progress:
        report = check_corpus(
            reader,
            decode=arguments.decode,
            workers=arguments.workers,
            advance=progress.advance,
        )
    print(report.model_dump_json(indent=2) if arguments.json else format_report(report))
    return 0 if report.sound else 1


def run_shards(arguments: argparse.Namespace) -> int:
    """Check a folder of shards."""
    from norface.data.checking import check_shards
    from norface.data.shards import list_shards, write_index
    from norface.progress import Progress

    if arguments.decode:
        raise ConfigError("--decode is for a corpus; of shards every picture is always decoded")
    folder = Path(arguments.target)
    if arguments.rebuild_index:
        write_index(folder)
    with Progress("check", total=len(list_shards(folder)), unit="shard") as progress:
        report = check_shards(folder, progress.advance)
    print(report.model_dump_json(indent=2) if arguments.json else format_shards(report))
    return 1 if report.problems else 0


def format_shards(report: ShardReport, most: int = 20) -> str:
    """The findings as a table for a person; at most `most` problems are listed."""
    from norface.data.label_counts import format_parts, format_rates
    from norface.data.rehearsal import SAID

    subjects = ", ".join(f"{count} of {corpus}" for corpus, count in report.subjects.items())
    lines = [
        f"{report.folder}: {report.all.samples} samples in {report.shards} shards,"
        f" {report.bytes / 1e6:.1f} MB, pictures of {report.side or 'unknown'} pixels",
        f"subjects: {subjects or 'none'}"
        + "".join(
            f", {low} to {high} samples each"
            for low, high in [report.samples_per_subject or (0, 0)]
        ),
    ]
    if report.rehearsal:
        lines.insert(1, SAID)
    if report.splits:
        text = ", ".join(f"{name} {count}" for name, count in report.splits.items())
        lines.append(f"splits: {text}")
    lines += format_parts(report.by_part, most)
    lines += format_rates(report.all, report.by_part.parts)
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
