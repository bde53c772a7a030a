"""A corpus in its official layout, or a folder of photographs => aligned faces in shards.

Every face is found, brought upright to one template and written to OUT as tar shards with an
index. OUT/rejects.csv says which photographs were left out and why, OUT/notes.csv what was odd
about others (a second face, a much enlarged one); OUT/contact_sheet.png shows the result: look at
it.

CORPUS `folder` is any tree: the subject of ROOT/anna/2.jpg is anna; subjects=file makes each
photograph a person of its own. A table of labels (labels=FILE.csv) has a column path, relative to
ROOT, and any of corpus, subject, clip, frame, split, emotion, au_N (0 or 1), intensity_N (0..5); an
empty cell is an unknown label.

`normalized CORPUS FOLDER OUT target=NAME` takes normalized faces that somebody released: pictures
are matched by name to the original faces in shards=FOLDER (default: shards/CORPUS) and become the
set OUT/NAME/released-... beside lists of what was not matched. Nothing is detected or aligned.
Where originals lack a picture, originals=FOLDER writes shards of those that have one.

A stopped run goes on with the same command and loses one shard at most. `--part 3/16` does a
sixteenth of the work, for 16 jobs that share OUT; the one that finishes last writes the index. What
jobs have left undone, the same command without --part does. No byte depends on the number of jobs
or processes.

Example:
  norface prepare folder photos shards --workers 4
  norface prepare folder photos shards labels=labels.csv --side 128
  norface prepare rafdb RAF-DB shards/rafdb
  norface prepare affectnet AffectNet shards/affectnet classes=8 --workers 16
  norface prepare normalized rafdb RAF-DB-norm normalized/rafdb target=id1 shards=shards/rafdb
  sbatch --array=0-15 slurm/prepare.sh disfa DISFA shards/disfa
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from norface.cli.prepare_normalized import NORMALIZED, run_normalized
from norface.data.corpora.base import READERS

if TYPE_CHECKING:
    from norface.data.preparation import Plan, Summary

MOST_PROBLEMS = 20
"Problems of a corpus that are printed."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "corpus", metavar="CORPUS", help=f"layout of ROOT: {', '.join(READERS)}; or {NORMALIZED}"
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the corpus")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the shards, new or empty")
    parser.add_argument(
        "options", nargs="*", metavar="key=value", help="settings of the corpus's reader"
    )
    parser.add_argument(
        "--side",
        type=int,
        help=f"of the aligned pictures (default: 256; {NORMALIZED}: that of the originals)",
    )
    parser.add_argument(
        "--faces",
        choices=("largest", "reject"),
        default="largest",
        help="of several faces take the largest (default), or leave the photograph out",
    )
    parser.add_argument(
        "--least-eye-distance",
        type=float,
        default=12,
        metavar="PIXELS",
        help="leave out faces whose eyes are nearer in the photograph (default: 12)",
    )
    parser.add_argument(
        "--detector",
        choices=("auto", "insightface", "mediapipe"),
        default="auto",
        help="auto (default): insightface where its models are on disk, else MediaPipe",
    )
    parser.add_argument(
        "--weights", type=Path, help="the detector's: a .task file, a det_*.onnx file or its folder"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--samples-per-shard",
        type=int,
        default=1000,
        metavar="N",
        help="photographs in a shard (default: 1000)",
    )
    parser.add_argument(
        "--part", default="1/1", metavar="I/N", help="the share of this job, for example 3/16"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only count photographs and find the detector"
    )


def run(args: argparse.Namespace) -> int | None:
    """Prepare and say where to look."""
    if args.corpus == NORMALIZED:
        words = [str(args.root), str(args.out), *args.options]
        return run_normalized(words, side=args.side, dry_run=args.dry_run)
    from norface.config import load_config
    from norface.data.corpora.base import open_corpus
    from norface.data.detection import choose_detector
    from norface.data.listing import refuse_inside
    from norface.data.parts import parse_part
    from norface.data.preparation import PreparationConfig, make_plan, prepare_shards
    from norface.data.rehearsal import SAID, read_marker
    from norface.errors import ConfigError

    if args.workers < 1:
        raise ConfigError(f"--workers {args.workers}: at least one process is needed")
    parse_part(args.part)
    names = ("side", "faces", "least_eye_distance", "samples_per_shard")
    config = load_config(
        PreparationConfig,
        overrides=[
            f"{name}={getattr(args, name)}" for name in names if getattr(args, name) is not None
        ],
    )
    reader = open_corpus(args.corpus, args.root, args.options)
    refuse_inside(args.out, args.root)
    choice = choose_detector(args.detector, args.weights)
    rehearsal = read_marker(args.root)
    plan = make_plan(reader.read(), config, choice, rehearsal)
    problems = reader.problems
    for problem in problems[:MOST_PROBLEMS]:
        print(f"not used: {problem.place}: {problem.what}", file=sys.stderr)
    if len(problems) > MOST_PROBLEMS:
        print(f"... and {len(problems) - MOST_PROBLEMS} more", file=sys.stderr)
    for rule, count in reader.left_out.items():
        print(f"left out by rule: {count} {rule}", file=sys.stderr)
    print(
        f"{plan.samples} photographs of {plan.subjects} subjects;"
        f" detector: {choice.name}, {choice.weights}",
        file=sys.stderr,
    )
    if rehearsal is not None:
        print(f"{args.root}: {SAID}; the shards will say so", file=sys.stderr)
    if args.dry_run:
        return 0
    summary = prepare_shards(
        reader.read(), args.out, plan, choice,
        workers=args.workers, part=args.part, problems=problems,
    )  # fmt: skip
    print(describe(summary, plan, args))
    return 0


def describe(summary: Summary, plan: Plan, args: argparse.Namespace) -> str:
    """The line that says what is there and where to look."""
    from norface.data.preparation import REJECTS, SHEET

    if summary.was_finished:
        return f"{args.out}: was finished before with these settings; nothing was changed"
    if not summary.finished:
        return (
            f"part {args.part} is done: {summary.kept} faces in {args.out}, {summary.rejected} left"
            " out; the part that finishes last writes the index"
        )
    return (
        f"{summary.kept} of {plan.samples} faces aligned at side {plan.config.side} in {args.out};"
        f" {summary.rejected} left out ({args.out / REJECTS}), {summary.noted} with a note;"
        f" look at {args.out / SHEET}"
    )
