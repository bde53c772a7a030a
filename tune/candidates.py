"""Target faces: which are refused, and normalizing with one.

A target that shows an expression lends it to every face that is normalized to it (Fig. 4 of the
paper, the blue box: labelled as without action units, and still with raised brows). So labels alone
are not enough: a reader looks at the picture too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from norface.critics.base import CriticsConfig, build_critics, file_sha256
from norface.critics.face_reader import FaceReaderCritic
from norface.data.labels import ACTION_UNITS, unit_name
from norface.data.shards import ShardIndex
from norface.errors import ConfigError
from norface.evaluation.crossval_config import CrossvalConfig
from norface.images import to_image
from norface.normalize import normalize_shards
from norface.training.backends.ranks import choose_cuda
from norface.training.stages.cla_folds import open_folds
from tune.base import Base
from tune.config import NormalizeChoice

UNITS = tuple(ACTION_UNITS)
CHOSEN = "chosen"
"Name of the link to a target's set where every fold has a generator of its own."


def refuse_active(choice: NormalizeChoice, keys: Sequence[str]) -> dict[str, str]:
    """Candidate => why it is no target: the units that its labels or the reader see active.

    Candidates without an active unit are not in it. Raises CorpusError for a key that is not there.
    """
    index = ShardIndex.open(choice.target_shards or choice.shards)
    rows = index.rows_of(list(keys))
    refused: dict[str, list[str]] = {}
    labels = index.labels("intensity", UNITS)[rows]
    presence = index.labels("au", UNITS)[rows]
    read = None if choice.reader is None else read_intensity(choice, index, rows)
    for number, key in enumerate(keys):
        found = []
        for column, unit in enumerate(UNITS):
            labelled = labels[number, column]
            if labelled >= choice.active_from:
                found.append(f"{unit_name(unit)} labelled {labelled:g}")
            elif np.isnan(labelled) and presence[number, column] == 1:
                found.append(f"{unit_name(unit)} labelled as present")
            elif read is not None and read[number, column] >= choice.active_from:
                found.append(f"{unit_name(unit)} read as {read[number, column]:.1f}")
        if found:
            refused[key] = found
    return {key: ", ".join(found) for key, found in refused.items()}


def refuse_tested(base: Base, choice: NormalizeChoice, keys: Sequence[str]) -> dict[str, str]:
    """Candidate => the fold of the sweep that tests its person (protocol strict)."""
    config = CrossvalConfig.model_validate(base.values)
    data, wanted = config.cla.data, base.folds()
    tested = {
        person: fold.name
        for fold in open_folds(data, ShardIndex.open(data.shards, cache=data.cache_folder))
        if fold.name in wanted
        for person in fold.test
    }
    index = ShardIndex.open(choice.target_shards or choice.shards)
    refused = {}
    for key, row in zip(keys, index.rows_of(list(keys)), strict=True):
        record = index.table.iloc[int(row)]
        person = (str(record["corpus"]), str(record["subject"]))
        if person in tested:
            refused[key] = f"{'/'.join(person)} is a test subject of fold {tested[person]}"
    return refused


@torch.no_grad()
def read_intensity(choice: NormalizeChoice, index: ShardIndex, rows: np.ndarray) -> np.ndarray:
    """What the reader sees in these pictures: intensities (N, 17), 0..5 in the order of UNITS.

    Raises ConfigError for a critic that does not read intensities.
    """
    critic = build_critics(CriticsConfig(expression=choice.reader))["expression"]
    if not isinstance(critic, FaceReaderCritic):
        raise ConfigError(
            f"normalize.reader: {critic.card.name} does not read action units; use a network of"
            " `norface train critic`, or null to go by the labels alone"
        )
    images = torch.stack([to_image(index.read_pixels(int(row))) for row in rows])
    return 5 * critic(images).numpy()


def set_folder(choice: NormalizeChoice, fold: str) -> tuple[Path, Path]:
    """(generator, folder of the sets) of a fold."""
    per_fold = "{fold}" in str(choice.generator)
    generator = Path(str(choice.generator).replace("{fold}", fold))
    return generator, choice.out / fold if per_fold else choice.out


def normalize_with(choice: NormalizeChoice, target: str, fold: str) -> Path:
    """The set of this target, written unless it is there. One process at a time; others wait."""
    generator, out = set_folder(choice, fold)
    if not generator.is_file():
        raise ConfigError(
            f"normalize.generator: {generator}: no such file; `norface train nor` writes one"
        )
    out.mkdir(parents=True, exist_ok=True)
    with open(out / f".{target}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = normalize_shards(
            generator,
            choice.shards,
            out,
            target_key=target,
            target_shards=choice.target_shards,
            device="cuda" if choose_cuda("auto") else "cpu",
        )
        if out != choice.out:
            link = folder.with_name(f".{CHOSEN}.{os.getpid()}")
            link.symlink_to(folder.name)
            os.replace(link, folder.with_name(CHOSEN))
    return folder


def set_path(choice: NormalizeChoice, target: str) -> Path:
    """Where cross-validation finds the target's sets; with {fold} where they differ by fold."""
    generator, out = set_folder(choice, "{fold}")
    if out != choice.out:
        return out / target / CHOSEN
    return out / target / file_sha256(generator)[:12]
