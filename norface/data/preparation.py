"""Photographs => aligned shards, with a list of what was left out and a sheet to look at.

    summary = prepare_shards(records, "shards", PreparationConfig(), choose_detector("auto"))

Every picture is read, its face found and aligned in one of several processes; results are written
in the order of the records, so the shards are the same bytes whatever the number of processes. The
same call again after a stop goes on behind the last whole shard.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from norface.config import Config
from norface.data.alignment import TEMPLATE, align_face
from norface.data.detection import DetectorChoice, FaceDetector
from norface.data.indexing import INDEX_NAME
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, ShardWriter, list_shards
from norface.data.tars import scan_shard, unwritable
from norface.errors import CorpusError, NorfaceError
from norface.images import encode_jpeg, make_grid, read_photo, resize_pixels, write_png
from norface.progress import track

TEMPLATE_EYES = float(TEMPLATE[1, 0] - TEMPLATE[0, 0])
"Distance of the eyes in an aligned picture, in units of its side."
SHEET_FACES, SHEET_COLUMNS, SHEET_SIDE = 80, 10, 128
REJECTS, NOTES, SHEET = "rejects.csv", "notes.csv", "contact_sheet.png"


class PreparationConfig(Config):
    """How photographs become aligned pictures."""

    side: int = Field(256, ge=32, le=2048)
    "Side of the aligned pictures, in pixels."
    faces: Literal["largest", "reject"] = "largest"
    "Of a photograph with several faces: take the largest (noted), or leave the photograph out."
    least_eye_distance: float = Field(12.0, ge=0)
    "Faces whose eyes are nearer to each other in the photograph, in pixels, are left out."
    samples_per_shard: int = Field(1000, gt=0)
    "Pictures in a shard."


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one photograph: an aligned picture, or the reason why not."""

    record: FaceRecord
    jpeg: bytes | None = None
    reason: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Summary:
    """Counts of a preparation."""

    kept: int
    rejected: int
    noted: int


def prepare_shards(
    records: Sequence[FaceRecord],
    out: str | Path,
    config: PreparationConfig,
    choice: DetectorChoice,
    *,
    workers: int = 1,
) -> Summary:
    """Align the face of every record's photograph; write shards, lists and contact sheet to `out`.

    Raises CorpusError where `out` holds other shards, or where no photograph at all has a face.
    """
    folder = Path(out)
    done = find_done(folder, records)
    left = [record for record in records if record.key not in done]
    rejects: list[Outcome] = []
    notes: list[Outcome] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be made ({error.strerror})") from None
    with ShardWriter(
        folder, side=config.side, samples_per_shard=config.samples_per_shard, resume=True
    ) as writer:
        outcomes = run_in_order(left, config, choice, workers)
        for outcome in track(outcomes, "prepare", len(left), unit="photo"):
            if outcome.jpeg is None:
                rejects.append(outcome)
                continue
            writer.write(dataclasses.replace(outcome.record, image=outcome.jpeg))
            if outcome.note:
                notes.append(outcome)
        write_list(folder / REJECTS, rejects, "reason")
        write_list(folder / NOTES, notes, "note")
        if len(rejects) == len(records):
            first = rejects[0]
            raise CorpusError(
                f"none of {len(records)} photographs was kept (reasons in {folder / REJECTS});"
                f" {photo_path(first.record)}: {first.reason}"
            )
    write_sheet(folder)
    return Summary(len(records) - len(rejects), len(rejects), len(notes))


def find_done(folder: Path, records: Sequence[FaceRecord]) -> set[str]:
    """Keys that a stopped run has already written; refuses a finished folder and a foreign one."""
    if (folder / INDEX_NAME).exists():
        raise CorpusError(f"{folder}: already holds finished shards; choose another folder")
    done = {member.record.key for path in list_shards(folder) for member in scan_shard(path)}
    strange = done - {record.key for record in records}
    if strange:
        raise CorpusError(
            f"{folder}: holds shards of other photographs ({min(strange)}); choose another folder"
        )
    return done


def prepare_face(record: FaceRecord, config: PreparationConfig, detector: FaceDetector) -> Outcome:
    """One photograph => its aligned picture as JPEG, or the reason why there is none."""
    path = photo_path(record)
    try:
        pixels = read_photo(path)
        faces = detector.find_faces(pixels)
        height, width = pixels.shape[:2]
        if not faces:
            return Outcome(record, reason=f"no face found in {width}x{height} pixels")
        if len(faces) > 1 and config.faces == "reject":
            return Outcome(record, reason=f"{len(faces)} faces; give one, or --faces largest")
        face = faces[0]
        if face.eye_distance < config.least_eye_distance:
            return Outcome(
                record,
                reason=f"the eyes are {face.eye_distance:.0f} pixels apart, less than"
                f" {config.least_eye_distance:.0f}",
            )
        notes = [f"{len(faces)} faces; the largest was taken"] if len(faces) > 1 else []
        enlarged = TEMPLATE_EYES * config.side / face.eye_distance
        if enlarged > 2:
            notes.append(f"enlarged {enlarged:.1f} times")
        aligned = align_face(pixels, face.five_points, config.side)
        return Outcome(record, encode_jpeg(aligned), note="; ".join(notes))
    except CorpusError as error:
        return Outcome(record, reason=str(error).removeprefix(f"{path}: "))


def photo_path(record: FaceRecord) -> Path:
    """Where the record's photograph lies."""
    if not isinstance(record.image, Path):
        raise CorpusError(f"{record.key}: a photograph to prepare must be given as a path")
    return record.image


def run_in_order(
    records: Iterable[FaceRecord],
    config: PreparationConfig,
    choice: DetectorChoice,
    workers: int,
) -> Iterator[Outcome]:
    """Outcomes in the order of the records, from `workers` processes (1: this one)."""
    if workers <= 1:
        detector = choice.load()
        yield from (prepare_face(record, config, detector) for record in records)
        return
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (config, choice)
    ) as pool:
        waiting: deque[Future[Outcome]] = deque()
        try:
            for record in records:
                # A short queue: pictures that are ready wait for the slow one before them.
                waiting.append(pool.submit(_prepare_in_worker, record))
                if len(waiting) >= 8 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise NorfaceError(
                "a worker process was killed (out of memory?); run the same command with fewer"
                " --workers, it goes on where it stopped"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


_prepare: Callable[[FaceRecord], Outcome]
"In a worker process: `prepare_face` with its settings and its detector."


def _start_worker(config: PreparationConfig, choice: DetectorChoice) -> None:
    global _prepare
    import torch

    torch.set_num_threads(1)
    detector = choice.load()
    _prepare = lambda record: prepare_face(record, config, detector)


def _prepare_in_worker(record: FaceRecord) -> Outcome:
    return _prepare(record)


def write_list(path: Path, outcomes: Sequence[Outcome], column: str) -> None:
    """A csv of path, key and the outcome's `column` (reason or note)."""
    with _aside(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "key", column])
        for outcome in outcomes:
            writer.writerow([outcome.record.image, outcome.record.key, getattr(outcome, column)])


def write_sheet(folder: Path) -> None:
    """A picture of up to 80 aligned faces, spread evenly over the shards."""
    index = ShardIndex.open(folder)
    count = min(len(index), SHEET_FACES)
    rows = np.linspace(0, len(index) - 1, count).round().astype(int)
    faces = [resize_pixels(index.read_pixels(int(row)), SHEET_SIDE) for row in rows]
    lines = [faces[i : i + SHEET_COLUMNS] for i in range(0, count, SHEET_COLUMNS)]
    with _aside(folder / SHEET) as temporary:
        write_png(temporary, make_grid(lines))


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Any]:
    """A temporary path beside `path` that takes its place when all went well."""
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)
