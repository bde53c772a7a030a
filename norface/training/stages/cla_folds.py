"""Which fold stage `cla` trains, and which normalized sets belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from norface.data.folds import Fold, load_folds, make_folds
from norface.data.official import OFFICIAL, official_fold
from norface.data.shards import ShardIndex
from norface.errors import ConfigError
from norface.evaluation.corpus_folds import CORPORA, corpus_folds
from norface.training.stages.cla_config import ClaDataConfig


def open_folds(data: ClaDataConfig, index: ShardIndex) -> list[Fold]:
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


def choose_fold(data: ClaDataConfig, index: ShardIndex) -> Fold:
    """The fold `data.fold`. Raises ConfigError listing the names there are."""
    folds = {fold.name: fold for fold in open_folds(data, index)}
    if data.fold not in folds:
        raise ConfigError(f"data.fold: found '{data.fold}'; there are: {', '.join(folds)}")
    return folds[data.fold]


def find_sets(normalized: Sequence[Path | list[Path]], fold: str) -> list[list[Path]]:
    """The folders of every stream for a fold. Raises ConfigError naming the first absent one."""
    streams = [
        [
            Path(str(path).replace("{fold}", fold))
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
