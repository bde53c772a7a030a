"""`norface bench prepare`: how much of the face detector's speed preparation keeps, a core."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from norface.config import Config
from norface.data.corpora.base import open_corpus
from norface.data.detection import DetectorChoice, FaceDetector
from norface.data.preparation import PreparationConfig, make_plan, prepare_shards
from norface.errors import ConfigError, CorpusError
from norface.images import read_photo

GOAL = 0.8
"Preparation's speed in units of the bare detector's."


class PreparationRates(Config):
    """Photographs a second in one process: medians over the rounds, ratios round by round."""

    photographs: int
    detector: str
    bare: float
    "The detector alone, on pixels in memory."
    prepared: float
    "Reading, finding, aligning, encoding and writing shards."
    ratio: float

    def describe(self) -> str:
        """Lines for a person."""
        return "\n".join(
            [
                f"{self.photographs} photographs, one process, detector {self.detector}",
                f"  the detector alone         {self.bare:>8.1f} photographs/s",
                f"  norface prepare            {self.prepared:>8.1f} photographs/s",
                f"  ratio {self.ratio:.2f} (goal {GOAL:.1f})",
            ]
        )


@dataclasses.dataclass(frozen=True)
class LoadedChoice(DetectorChoice):
    """A detector whose weights are in memory already, so that loading is not counted."""

    detector: FaceDetector

    def load(self) -> FaceDetector:
        return self.detector


def bench_preparation(
    root: Path, choice: DetectorChoice, *, photographs: int, rounds: int
) -> PreparationRates:
    """Prepare up to `photographs` of the pictures below `root` in turns with the detector alone."""
    records = list(itertools.islice(open_corpus("folder", root).read(), photographs))
    loaded = LoadedChoice(choice.name, choice.weights, choice.load())
    plan = make_plan(records, PreparationConfig(), loaded)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    bare, prepared = [], []
    try:
        for _ in range(rounds):
            bare.append(_rate_alone(loaded.detector, [record.image for record in records]))
            with tempfile.TemporaryDirectory() as out:
                began = time.perf_counter()
                prepare_shards(records, out, plan, loaded)
                prepared.append(len(records) / (time.perf_counter() - began))
    finally:
        torch.set_num_threads(threads)
    return PreparationRates(
        photographs=len(records),
        detector=choice.name,
        bare=float(np.median(bare)),
        prepared=float(np.median(prepared)),
        ratio=float(np.median(np.array(prepared) / bare)),
    )


def _rate_alone(detector: FaceDetector, paths: list[object]) -> float:
    """Photographs a second of the detector; reading them is not counted."""
    seconds, count = 0.0, 0
    for path in paths:
        try:
            pixels = read_photo(str(path))
        except CorpusError:
            continue
        began = time.perf_counter()
        detector.find_faces(pixels)
        seconds, count = seconds + time.perf_counter() - began, count + 1
    return count / seconds


def write_portraits(folder: Path, count: int) -> None:
    """Turned portraits from scikit-image. Raises ConfigError where it is not installed."""
    try:
        from skimage.data import astronaut
    except ImportError:
        raise ConfigError(
            "no photographs: give a folder of some (norface bench prepare PHOTOS), or install"
            " scikit-image"
        ) from None
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    portrait = Image.fromarray(astronaut())
    for number in range(count):
        portrait.rotate(20 * number / count - 10).save(folder / f"{number:04d}.jpg", quality=95)
