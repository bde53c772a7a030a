"""Whose faces stand behind a row: no corpus is shown under another one's name.

check_corpora(config, "bp4d", place)      # CorpusError where its shards are of DISFA
"""

from __future__ import annotations

from norface.data.indexing import find_rehearsal
from norface.data.rehearsal import SAID
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, CorpusError
from norface.evaluation.corpus_folds import CORPORA
from norface.paper.config import ExperimentPlace, PaperConfig
from norface.paper.settings import read_classifier
from norface.training.stages.cla_folds import require_corpora

ACROSS = "-to-"
"Between the corpus that trains and the one that is tested, in an experiment's name."


def corpora_of(experiment: str) -> list[str]:
    """bp4d-intensity => [bp4d]; rafdb-to-affectnet => [rafdb, affectnet], trained and tested."""
    name = experiment.removesuffix("-intensity").removesuffix("-emotion")
    return name.split(ACROSS)


def check_corpora(config: PaperConfig, experiment: str, place: ExperimentPlace) -> None:
    """Look whether an experiment's shards, and the way it goes across corpora, are its name's.

    Raises CorpusError for shards of other corpora or of a rehearsal, ConfigError for another way.
    """
    corpora = corpora_of(experiment)
    index, where = ShardIndex.open(place.shards), f"experiments.{experiment}.shards"
    require_corpora(index, corpora, where)
    for folder in index.folders:
        if find_rehearsal(folder) is not None:
            raise CorpusError(
                f"{where}: {folder} holds {SAID}; give the corpus's own shards (norface crossval"
                " takes these, and says what they are)"
            )
    if len(corpora) == 1:
        return
    data = read_classifier(config, experiment, place)["data"]
    trained = data.get("train_corpora")
    if data.get("folds") != CORPORA or trained != corpora[:1]:
        raise ConfigError(
            f"experiments.{experiment}: found cla.data.folds={data.get('folds')} and"
            f" cla.data.train_corpora={trained}; expected {CORPORA} and [{corpora[0]}], so that"
            f" {corpora[1]} is tested"
        )
