"""The embedded corpus as shards: faces with exact labels, and their true normalized faces.

write_corpus("shards/folds", pool="folds", subjects=30, frames=40, side=64)
write_truth("shards/folds", "synthetic_S200003_seed0_7", "normalized/folds")

face = render(draw_parameters("folds", subject_number=3, frame_number=7), 64)
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import json
import multiprocessing
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from norface.data.labels import ACTION_UNITS, is_present
from norface.data.normalized import TRUTH, NormalizedSet, claim_set
from norface.data.records import FaceRecord
from norface.data.shards import ShardFile, ShardIndex, ShardWriter, write_index
from norface.errors import CorpusError
from norface.images import encode_jpeg, make_grid, write_png
from norface.progress import Progress
from norface.synthetic.parameters import Camera, FaceParameters, Light, RenderedFace
from norface.synthetic.renderer import render, render_batch
from norface.synthetic.sampling import (
    CORPUS,
    POOLS,
    draw_frame,
    draw_parameters,
    find_subject,
    identity_seed,
    normalized_truth,
    subject_name,
)
from norface.synthetic.version import CARD_NAME, RENDERER_VERSION

__all__ = [
    "CORPUS", "POOLS", "Camera", "FaceParameters", "Light", "RenderedFace", "draw_frame",
    "draw_parameters", "find_subject", "make_record", "normalized_truth", "parameters_of", "render",
    "render_batch", "write_contact_sheet", "write_corpus", "write_truth",
]  # fmt: skip

SHEET_NAME = "contact_sheet.png"
_CHUNK = 32


_LEAST = {"subjects": 1, "frames": 1, "side": 16, "seed": 0, "clip_frames": 0}


@dataclasses.dataclass(frozen=True)
class CorpusCard:
    """What a folder of synthetic shards holds: the same card, the same bytes."""

    pool: str
    subjects: int
    frames: int
    side: int = 256
    seed: int = 0
    first_subject: int = 0
    "Number of the first subject within the pool."
    clip_frames: int = 0
    "Frames of a clip; 0 = photographs."
    renderer: int = RENDERER_VERSION
    "What drew them."

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise CorpusError(f"{name} is {getattr(self, name)}; at least {least} is needed")
        identity_seed(self.pool, self.first_subject)
        identity_seed(self.pool, self.first_subject + self.subjects - 1)

    def draws(self) -> Iterator[tuple[int, int]]:
        """(subject number, frame number) of every sample in the order of the shards."""
        subjects = range(self.first_subject, self.first_subject + self.subjects)
        return itertools.product(subjects, range(self.frames))


def make_record(
    pool: str,
    subject_number: int,
    frame_number: int,
    *,
    seed: int = 0,
    side: int = 256,
    clip_frames: int = 0,
) -> FaceRecord:
    """Render one frame and write down all that is known of it."""
    frame = draw_frame(pool, subject_number, frame_number, seed, clip_frames)
    record = FaceRecord(
        corpus=CORPUS,
        subject=subject_name(frame.parameters.identity_seed),
        clip=name_clip(frame_number, seed, clip_frames),
        frame=frame_number,
        intensity={unit: frame.parameters.intensity.get(unit, 0.0) for unit in ACTION_UNITS},
        emotion=frame.emotion,
    )
    presence = {unit: int(is_present(value)) for unit, value in record.intensity.items()}
    return _show(dataclasses.replace(record, presence=presence), frame.parameters, side)


def name_clip(frame_number: int, seed: int, clip_frames: int) -> str:
    """`seed0` for photographs; `seed0clip2of24` for the third clip of 24 frames each."""
    clip = f"clip{frame_number // clip_frames}of{clip_frames}" if clip_frames else ""
    return f"seed{seed}{clip}"


def _show(record: FaceRecord, parameters: FaceParameters, side: int) -> FaceRecord:
    """The record with a rendered picture, its landmarks and pose."""
    face = render(parameters, side)
    return dataclasses.replace(
        record,
        image=encode_jpeg(face.pixels),
        landmarks=[[round(float(x), 5), round(float(y), 5)] for x, y in face.landmarks],
        pose=tuple(round(angle, 3) for angle in face.pose),
    )


def parameters_of(record: FaceRecord) -> FaceParameters:
    """What a synthetic record was rendered from. Raises CorpusError for one of another corpus."""
    found = re.fullmatch(r"seed(\d+)(?:clip\d+of(\d+))?", record.clip)
    if record.corpus != CORPUS or found is None:
        raise CorpusError(f"{record.key}: not a face of the embedded corpus; no truth is known")
    pool, number = find_subject(record.subject)
    return draw_parameters(pool, number, record.frame, int(found[1]), int(found[2] or 0))


def write_corpus(
    out: str | Path,
    *,
    pool: str,
    subjects: int,
    frames: int,
    side: int = 256,
    seed: int = 0,
    first_subject: int = 0,
    clip_frames: int = 0,
    workers: int = 1,
) -> Path:
    """Write shards, their index and a contact sheet; the same arguments give the same bytes.

    A killed job is taken up by the same call; a folder that holds anything else is refused.
    Raises CorpusError.
    """
    folder, card = (
        Path(out),
        CorpusCard(pool, subjects, frames, side, seed, first_subject, clip_frames),
    )
    _claim(folder, card)
    try:
        with ShardWriter(folder, side=side, resume=True) as writer:
            total, done = subjects * frames, writer.done
            draws = itertools.islice(card.draws(), done, None)
            tasks = [(card, subject, frame) for subject, frame in draws]
            with Progress("synth", total, unit="face", done=done) as progress:
                for record in _work(_draw_task, tasks, workers):
                    writer.write(record)
                    progress.advance()
        temporary = folder / f".{SHEET_NAME}.tmp.png"
        write_contact_sheet(
            temporary, pool=pool, seed=seed, first_subject=first_subject, clip_frames=clip_frames,
            subjects=min(subjects, 8), frames=min(frames, 8),
        )  # fmt: skip
        os.replace(temporary, folder / SHEET_NAME)
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be written ({error.strerror})") from None
    return folder


def _claim(folder: Path, card: CorpusCard) -> None:
    """Write the card into an empty folder, or find the same one there."""
    path = folder / CARD_NAME
    text = json.dumps(dataclasses.asdict(card), indent=1) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            if path.read_text(encoding="utf-8") != text:
                raise CorpusError(
                    f"{folder}: holds a synthetic corpus of other settings ({CARD_NAME}); "
                    "give those, or choose another folder"
                )
        elif any(folder.iterdir()):
            raise CorpusError(f"{folder}: is not empty; choose another folder")
        else:
            temporary = path.with_suffix(".tmp")
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be written ({error.strerror})") from None


def _draw_task(task: tuple[CorpusCard, int, int]) -> FaceRecord:
    card, subject, frame = task
    return make_record(
        card.pool, subject, frame, seed=card.seed, side=card.side, clip_frames=card.clip_frames
    )


def _truth_task(task: tuple[FaceRecord, FaceParameters, int]) -> FaceRecord:
    record, target, side = task
    return _show(record, normalized_truth(parameters_of(record), target), side)


def _work(function, tasks: Iterable, workers: int) -> Iterator[FaceRecord]:
    """function over tasks, in order, in this process or in `workers` others."""
    if workers < 1:
        raise CorpusError(f"workers is {workers}; at least 1 is needed")
    if workers == 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        yield from pool.map(function, tasks, chunksize=_CHUNK)


def write_truth(
    source: str | Path,
    target_key: str,
    out: str | Path,
    *,
    target_shards: str | Path | None = None,
    workers: int = 1,
) -> Path:
    """Render every face of synthetic shards as the target; returns the set OUT/TARGET/truth.

    Keys, labels and shard numbers are the source's; landmarks and pose are those of the new
    picture. target_key is looked up in `target_shards` (None = the source). Whole shards of a
    killed job are kept. Raises CorpusError.
    """
    index = ShardIndex.open(source)
    of_target = index if target_shards is None else ShardIndex.open(target_shards)
    target = parameters_of(of_target.read_record(of_target.row_of(target_key)))
    card = NormalizedSet(
        target=target_key, generator=TRUTH, trained_on=[], source=index.digest, side=index.side
    )
    folder = Path(out) / target_key / TRUTH
    claim_set(folder, card, render(target, index.side).pixels)
    names = index.table["shard"].astype(str).to_numpy()
    with Progress("truth", len(index), unit="face") as progress:
        for name in np.unique(names):
            rows = np.flatnonzero(names == name)
            if not (folder / name).is_file():
                records = (index.read_record(int(row)) for row in rows)
                tasks = [(dataclasses.replace(r, image=None), target, index.side) for r in records]
                with ShardFile(folder / name, side=index.side) as shard:
                    for record in _work(_truth_task, tasks, workers):
                        shard.write(record)
                        progress.advance()
    write_index(folder)
    return folder


def write_contact_sheet(
    path: str | Path,
    *,
    pool: str = "folds",
    subjects: int = 8,
    frames: int = 8,
    side: int = 160,
    seed: int = 0,
    first_subject: int = 0,
    clip_frames: int = 0,
) -> None:
    """One row a subject, one column a frame, as PNG."""
    rows = []
    for subject in range(first_subject, first_subject + subjects):
        drawn = [
            draw_parameters(pool, subject, frame, seed, clip_frames) for frame in range(frames)
        ]
        rows.append(list(render_batch(drawn, side)))
    write_png(path, make_grid(rows))
