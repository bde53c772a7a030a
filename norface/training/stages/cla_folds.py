"""Which fold is trained, and which normalized sets belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from norface.data.fold_choice import FoldChoice
from norface.data.fold_lists import read_fold_list
from norface.data.folds import Fold, load_folds, make_folds
from norface.data.official import FOLD, OFFICIAL, official_fold
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, CorpusError
from norface.evaluation.corpus_folds import CORPORA, corpus_folds
from norface.training.stages.cla_config import ClaDataConfig


def open_folds(data: FoldChoice, index: ShardIndex) -> list[Fold]:
    """The folds that the config names or draws. Raises ConfigError, CorpusError."""
    share, persons = data.validation_share, index.persons
    if data.train_corpora is not None and data.folds != CORPORA:
        raise ConfigError(f"data.train_corpora: only with data.folds={CORPORA}")
    if data.folds == CORPORA:
        return corpus_folds(index, train=data.train_corpora, seed=data.seed, validation_share=share)
    if data.folds == OFFICIAL:
        return [official_fold(index, seed=data.seed, validation_share=share)]
    if data.folds is not None:
        return load_folds(data.folds, persons, seed=data.seed, validation_share=share)
    return make_folds(persons, parts=data.parts, seed=data.seed, validation_share=share)


def open_index(data: ClaDataConfig) -> ShardIndex:
    """The faces that a config reads. Raises CorpusError, also where they are of other corpora."""
    index = ShardIndex.open(data.shards, cache=data.cache_folder)
    if data.corpora is not None:
        require_corpora(index, data.corpora, "data.shards")
    return index.select(split=data.split)


def require_corpora(index: ShardIndex, corpora: Sequence[str], where: str) -> None:
    """Raise CorpusError unless the faces are of exactly these corpora.

    `where` is the key that names the shards, for the message.
    """
    found = sorted(set(index.table["corpus"].astype(str)))
    if found != sorted(corpora):
        raise CorpusError(
            f"{where}: {index.name}: found faces of {' and '.join(found) or 'nobody'}, expected"
            f" {' and '.join(corpora)}; give the shards of that, or what is named after the corpus"
            " that is there"
        )


def name_folds(data: FoldChoice) -> list[str] | None:
    """Names of the folds as far as the config alone tells them; None where shards must be read.

    Raises CorpusError for a list that cannot be read.
    """
    if data.folds == CORPORA:
        return None
    if data.folds == OFFICIAL:
        return [FOLD]
    if data.folds is not None:
        found = read_fold_list(data.folds)
        return [f"test={name}" for name in (found.parts or found.splits)]
    return [f"test=part{part + 1}" for part in range(data.parts)]


def choose_fold(data: FoldChoice, index: ShardIndex) -> Fold:
    """The fold `data.fold`. Raises ConfigError listing the names there are."""
    folds = {fold.name: fold for fold in open_folds(data, index)}
    if data.fold not in folds:
        raise ConfigError(f"data.fold: found '{data.fold}'; there are: {', '.join(folds)}")
    return folds[data.fold]


def find_sets(normalized: Sequence[Path | list[Path]], fold: str) -> list[list[Path]]:
    """The folders of every stream for a fold: {fold} is its name, a part `*` the only folder there.

    Raises ConfigError naming the first absent one, and where `*` stands for several.
    """
    streams = [
        [
            find_only(Path(str(path).replace("{fold}", fold)))
            for path in ([one] if isinstance(one, Path) else one)
        ]
        for one in normalized
    ]
    absent = [path for stream in streams for path in stream if not path.is_dir()]
    if absent:
        raise ConfigError(
            f"data.normalized: {len(streams)} sets are asked for, {absent[0]} is no folder; write"
            " it with norface normalize, or list only those that are there"
        )
    return streams


def find_only(path: Path) -> Path:
    """The path with each part `*` replaced by the only folder there is; as it is where none is.

    Raises ConfigError where there are several.
    """
    found = Path()
    for number, part in enumerate(path.parts):
        if part != "*":
            found /= part
            continue
        inner = sorted(one for one in found.glob("[!.]*") if one.is_dir())
        if not inner:
            return found.joinpath(*path.parts[number:])
        if len(inner) > 1:
            names = ", ".join(one.name for one in inner)
            raise ConfigError(f"data.normalized: {path}: several folders for * in {found}: {names}")
        found = inner[0]
    return found
