"""Photographs => aligned shards, with a list of what was left out and a sheet to look at.

    plan = make_plan(reader.read(), PreparationConfig(), choice := choose_detector("auto"))
    summary = prepare_shards(reader.read(), "shards", plan, choice, workers=16)

Every picture is read, its face found and aligned in one of several processes; results are written
in the order of the records, so the shards are the same bytes whatever the number of processes. The
same call again after a stop goes on behind the last whole shard. Records are passed over, never
held: a corpus of any size takes the same memory.

Jobs share the work by `part`: 3/16 takes every 16th block of photographs from the third on, and the
job that finds all blocks done writes the index. How many jobs there are changes no byte either.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch

from norface.data.aligning import Outcome, PreparationConfig, make_aligner
from norface.data.corpora.base import Problem
from norface.data.detection import DetectorChoice
from norface.data.in_order import run_in_order
from norface.data.parts import parse_part
from norface.data.pictures import cut_pieces
from norface.data.prepared import (
    NOTES,
    REJECTS,
    SHEET,
    KeyDigest,
    Plan,
    PreparedFolder,
    make_plan,
)
from norface.data.records import FaceRecord
from norface.errors import CorpusError
from norface.progress import Progress

__all__ = [
    "NOTES", "REJECTS", "SHEET", "Plan", "PreparationConfig", "Summary", "make_plan",
    "prepare_shards",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Summary:
    """What is there after a call."""

    kept: int
    rejected: int
    noted: int
    "Photographs of this part, or of all when it is finished."
    finished: bool
    "Whether all parts are done and the index is written."
    was_finished: bool = False
    "Whether that was so before this call, which then changed nothing."


def prepare_shards(
    records: Iterable[FaceRecord],
    out: str | Path,
    plan: Plan,
    choice: DetectorChoice,
    *,
    workers: int = 1,
    part: str = "1/1",
    problems: Sequence[Problem] = (),
) -> Summary:
    """Align the face of every record's photograph; write shards, lists and contact sheet to `out`.

    `records` are those of the plan once more. `problems` of the reader go to the list of what was
    left out. Raises CorpusError where `out` holds other shards, or where no photograph at all has a
    face, WeightsError for a file that is no detector, before anything is written.
    """
    number, count = parse_part(part)
    mine = range(number - 1, plan.blocks, count)
    folder = PreparedFolder(out, plan)
    if not folder.begun:
        # A folder that was begun belongs to its detector's file, so a wrong file must not begin it.
        choice.load()
    folder.begin()
    if folder.finished:
        return Summary(plan.samples, 0, 0, finished=True, was_finished=True)
    left = [block for block in mine if not folder.is_done(block)]
    sizes = [sum(map(plan.block_size, blocks)) for blocks in (mine, left)]
    threads = torch.get_num_threads()
    try:
        with Progress("prepare", sizes[0], "photo", done=sizes[0] - sizes[1]) as progress:
            align = functools.partial(make_aligner, plan.config, choice)
            results = run_in_order(cut_blocks(records, plan, left), align, workers=workers)
            for block in left:
                folder.write_block(block, _take(results, plan.block_size(block), progress))
            deque(results, maxlen=0)
    finally:
        torch.set_num_threads(threads)
    if not all(map(folder.is_done, range(plan.blocks))):
        return Summary(*folder.count(mine), finished=folder.finished)
    counts = folder.count(range(plan.blocks))
    try:
        folder.finish(problems)
    except (CorpusError, OSError):
        # Another part that was the last at the same moment may have taken the entries away.
        if not folder.finished:
            raise
    return Summary(*counts, finished=True)


def cut_blocks(
    records: Iterable[FaceRecord], plan: Plan, wanted: Sequence[int]
) -> Iterator[list[FaceRecord]]:
    """The wanted blocks of the records, in pieces for one process each; a piece is of one block.

    Raises CorpusError where the records are not those of the plan.
    """
    chosen, iterator, keys = set(wanted), iter(records), KeyDigest()
    for block in range(plan.blocks):
        here = keys.watch(islice(iterator, plan.block_size(block)))
        if block in chosen:
            yield from cut_pieces(here)
        else:
            deque(here, maxlen=0)
    deque(keys.watch(iterator), maxlen=0)
    if keys.hexdigest() != plan.keys:
        raise CorpusError(
            f"the corpus has changed while it was read: {plan.samples} samples, then {keys.count}"
        )


def _take(
    results: Iterator[tuple[list[FaceRecord], list[Outcome]]], count: int, progress: Progress
) -> Iterator[tuple[FaceRecord, Outcome]]:
    """The next `count` records with their outcomes, not waiting for any beyond."""
    while count > 0 and (result := next(results, None)) is not None:
        yield from zip(*result, strict=True)
        count -= len(result[0])
        progress.advance(len(result[0]))
