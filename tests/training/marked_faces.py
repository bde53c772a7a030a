"""A corpus of 16x16 pictures whose action units are bright patches, for tests of the classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from norface.data.normalized import NormalizedSet, write_set
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, ShardWriter
from norface.images import encode_jpeg

SIDE = 16
PATCHES = {1: (slice(0, 6), slice(0, 6)), 12: (slice(10, 16), slice(4, 12))}


def draw_labels(subject: int, frame: int) -> dict[int, int]:
    """Presence of AU1 and AU12, the same every time."""
    rng = np.random.default_rng([subject, frame])
    return {unit: int(rng.random() < 0.5) for unit in PATCHES}


def draw_pixels(labels: dict[int, int], noise: float, seed: list[int]) -> np.ndarray:
    """Grey with a bright patch a present unit, and noise that hides it."""
    rng = np.random.default_rng(seed)
    pixels = np.full((SIDE, SIDE, 3), 90.0)
    for unit, present in labels.items():
        pixels[PATCHES[unit]] += 90 * present
    return np.clip(pixels + noise * rng.normal(size=pixels.shape), 0, 255).astype(np.uint8)


def write_corpus(
    folder: Path,
    *,
    subjects: int = 9,
    frames: int = 8,
    noise: float = 20,
    flip_of: tuple = (),
    corpus: str = "synthetic",
    units: tuple = (1, 12),
    only: tuple = (0, ()),
    absent: tuple = (),
) -> Path:
    """Shards of the corpus; labels of the subjects in `flip_of` are turned, pictures kept.

    Units beyond AU1 and AU12 are coded as absent; `only` = (unit, the subjects who have a label of
    it); units in `absent` never occur.
    """
    with ShardWriter(folder, side=SIDE) as writer:
        for subject in range(subjects):
            for frame in range(frames):
                labels = draw_labels(subject, frame)
                pixels = draw_pixels(labels, noise, [subject, frame, 7])
                name = f"S{subject:04d}"
                if name in flip_of:
                    labels = {unit: 1 - present for unit, present in labels.items()}
                coded = {unit: 0 if unit in absent else labels.get(unit, 0) for unit in units}
                if only[0] and name not in only[1]:
                    coded.pop(only[0])
                writer.write(
                    FaceRecord(
                        corpus=corpus,
                        subject=name,
                        clip="c",
                        frame=frame,
                        image=encode_jpeg(pixels),
                        presence=coded,
                        intensity={unit: 5.0 * present for unit, present in coded.items()},
                        emotion="happiness" if coded[12] else "neutral",
                    )
                )
    return folder


def write_normalized(shards: Path, folder: Path, *, noise: float = 0, **card) -> Path:
    """A normalized set: the same labels drawn without noise."""
    index = ShardIndex.open(shards)
    with ShardWriter(folder, side=SIDE) as writer:
        for row in range(len(index)):
            record = index.read_record(row)
            subject = int(record.subject[1:])
            pixels = draw_pixels(draw_labels(subject, record.frame), noise, [row])
            writer.write(
                FaceRecord(
                    corpus=record.corpus,
                    subject=record.subject,
                    clip=record.clip,
                    frame=record.frame,
                    image=encode_jpeg(pixels),
                )
            )
    facts = {"target": "other_T0000_c_0", "generator": "truth", "trained_on": []}
    write_set(folder, NormalizedSet(**{**facts, "source": index.digest, "side": SIDE, **card}))
    return folder


def stage_options(shards: Path, root: Path) -> list[str]:
    """key=value of a tiny run of stage `cla`."""
    return [
        f"root={root}",
        f"data.shards=[{shards}]",
        "units=[1, 12]",
        "epochs=2",
        "data.cache=true",
        "model.extractor=conv",
        "model.conv={side: 16, channels: [8, 8], width: 16}",
        "optimizer.learning_rate=0.003",
        "augment={flip: 0, shift: 0.05}",
        "trainer.batch_per_rank=8",
        "trainer.log_every_steps=2",
        "backend.device=cpu",
        "tracking.mlflow=false",
    ]
