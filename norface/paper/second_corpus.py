"""A second synthetic corpus, `webcam`: other persons before a worse camera.

With it synthetic faces stand in for the cross-dataset Tables 5 and 6: trained on the folds' corpus,
tested on this one. Labels are exact here too; pictures are dark and blurred, as a cheap camera's.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from norface.data.indexing import INDEX_NAME
from norface.data.normalized import TARGET_NAME, read_set, write_set
from norface.data.shards import ShardIndex, ShardWriter
from norface.images import encode_jpeg, resize_pixels
from norface.paper.config import PaperConfig
from norface.synthetic.corpus import write_corpus, write_truth

WEBCAM = "webcam"
"Name of the corpus, in keys and folds."
GAMMA, LIGHT = 1.4, 0.8
"Of its camera: darker, dark parts most."


def write_webcam(config: PaperConfig, target: Path) -> tuple[Path, Path]:
    """Render what is not there yet, as many persons as the folds have, none of whom is there.

    Returns the shards and the set of their true normalized faces on the first face of `target`.
    """
    size, folder = config.stand_in, config.root / config.name / "data"
    faces = write_corpus(
        folder / "webcam-faces", pool="folds", first_subject=size.subjects, subjects=size.subjects,
        frames=size.frames, side=size.side, workers=size.workers,
    )  # fmt: skip
    truth = write_truth(
        faces, ShardIndex.open(target).key_of(0), folder / "webcam-truth", target_shards=target,
        workers=size.workers,
    )  # fmt: skip
    shards = copy_renamed(faces, folder / WEBCAM, see_by_webcam)
    own = copy_renamed(truth, folder / "webcam-normalized" / truth.parent.name / truth.name)
    shutil.copyfile(truth / TARGET_NAME, own / TARGET_NAME)
    card = read_set(truth)
    write_set(own, card.model_copy(update={"source": ShardIndex.open(shards).digest}))
    return shards, own


def see_by_webcam(pixels: np.ndarray) -> np.ndarray:
    """A picture as the second corpus's camera takes it: half the resolution, less light."""
    blurred = resize_pixels(resize_pixels(pixels, len(pixels) // 2), len(pixels))
    return (255 * LIGHT * (blurred / 255.0) ** GAMMA).round().astype(np.uint8)


def copy_renamed(
    source: Path, folder: Path, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> Path:
    """Shards with the same records under the corpus's own name, their pictures changed."""
    if (folder / INDEX_NAME).is_file():
        return folder
    index = ShardIndex.open(source)
    with ShardWriter(folder, side=index.side, resume=True) as writer:
        for row in range(writer.done, len(index)):
            record = index.read_record(row)
            image = record.image if change is None else encode_jpeg(change(index.read_pixels(row)))
            writer.write(dataclasses.replace(record, corpus=WEBCAM, image=image))
    return folder
