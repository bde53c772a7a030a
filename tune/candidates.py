"""Target faces: which are refused, and normalizing with one.

A target that shows an expression lends it to every face that is normalized to it (Fig. 4 of the
paper, the blue box: labelled as without action units, and still with raised brows). So labels alone
are not enough: a reader looks at the picture too.
"""

from __future__ import annotations

import fcntl
import functools
import os
from collections.abc import Sequence
from pathlib import Path

from norface.critics.base import file_sha256
from norface.data.shards import ShardIndex
from norface.data.streams import find_tested
from norface.errors import ConfigError, WeightsError
from norface.evaluation.crossval_config import CrossvalConfig
from norface.evaluation.unit_readers import UnitReader, choose_reader
from norface.normalize import normalize_shards
from norface.targets import find_row_fault
from norface.training.backends.ranks import choose_cuda
from norface.training.stages.cla_folds import open_folds
from tune.base import Base
from tune.config import NormalizeChoice

CHOSEN = "chosen"
"Name of the link to a target's set where every fold has a generator of its own."


def refuse_active(choice: NormalizeChoice, keys: Sequence[str]) -> dict[str, str]:
    """Candidate => why it is no target: the units that its labels or the reader see active.

    Candidates at rest are not in it. Raises CorpusError for a key that is not there, WeightsError
    where the reader is not there.
    """
    index = ShardIndex.open(choice.target_shards or choice.shards)

    @functools.cache
    def choose(corpus: str) -> UnitReader | None:
        if choice.reader is None:
            return None
        try:
            return choose_reader(choice.reader, {corpus})
        except WeightsError as error:
            raise WeightsError(
                f"normalize.reader: {error}; null goes by the labels alone"
            ) from None

    exact = choice.reader == "auto"
    faults = {key: find_row_fault(index, key, choose, exact=exact) for key in keys}
    return {key: fault for key, fault in faults.items() if fault is not None}


def refuse_tested(base: Base, choice: NormalizeChoice, keys: Sequence[str]) -> dict[str, str]:
    """Candidate => the fold that tests its person, of all folds: the winner is retrained on all.

    As the classifier itself refuses such a target (norface.data.streams, protocol strict).
    """
    config = CrossvalConfig.model_validate(base.values)
    data = config.cla.data
    folds = open_folds(data, ShardIndex.open(data.shards, cache=data.cache_folder))
    index = ShardIndex.open(choice.target_shards or choice.shards)
    refused = {}
    for key, row in zip(keys, index.rows_of(list(keys)), strict=True):
        record = index.table.iloc[int(row)]
        person = (str(record["corpus"]), str(record["subject"]))
        for fold in folds:
            if found := find_tested([person], fold.test):
                refused[key] = (
                    f"{found[0]} is a test subject of fold {fold.name}; name candidates whom no"
                    " fold tests, from another corpus (normalize.target_shards)"
                )
                break
    return refused


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
            # `refuse_active` has looked at it, as the sweep's config says.
            check_target=False,
            device="cuda" if choose_cuda("auto") else "cpu",
        )
        if out != choice.out:
            choose_set(folder)
    return folder


def choose_set(folder: Path) -> None:
    """Have the link beside a set point to it. One process at a time."""
    link = folder.with_name(f".{CHOSEN}")
    # A process that was killed here has left it.
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    os.replace(link, folder.with_name(CHOSEN))


def set_path(choice: NormalizeChoice, target: str) -> Path:
    """Where cross-validation finds the target's sets; with {fold} where they differ by fold."""
    generator, out = set_folder(choice, "{fold}")
    if out != choice.out:
        return out / target / CHOSEN
    return out / target / file_sha256(generator)[:12]
