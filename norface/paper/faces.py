"""The faces that figures show: of an experiment, those of its normalized sets, folder or fold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from norface.config import build_config
from norface.data.indexing import INDEX_NAME
from norface.data.normalized import TARGET_NAME, TRUTH, read_set
from norface.data.shards import ShardIndex
from norface.errors import CorpusError
from norface.images import read_photo
from norface.paper.config import ExperimentPlace, PaperConfig
from norface.paper.settings import read_classifier
from norface.target_grid import choose_originals

COLUMNS = 8
"Faces of a picture, of as many persons where there are so many."
TRUE_FACES = "rendered true faces, no F_nor"
"What is said of a set that no generator made."
Row = tuple[str, list[np.ndarray | None]]
"Label, and faces (S, S, 3); None = there is none."
Sets = Mapping[str, Sequence[Path | list[Path]]]


@dataclasses.dataclass(frozen=True)
class Faces:
    """What a figure shows of one experiment."""

    place: ExperimentPlace
    keys: list[str]
    "Keys of the originals, of different persons."
    folds: list[str]
    "The fold that tests each of these persons; [] where no set is of single folds."

    def originals(self) -> list[np.ndarray | None]:
        """The faces before normalization."""
        return read_faces(self.place.shards[0], self.keys)

    def of(self, sets: Sets) -> list[Row]:
        """A row each stream of each set, its target first where it has a picture.

        Of sets of single folds each face is of the fold that tests its person, whose generator has
        never seen that person. Raises ConfigError for a set that is not there.
        """
        rows: list[Row] = []
        for name, streams in sets.items():
            for number, stream in enumerate(streams, 1):
                label = name if len(streams) == 1 else f"{name} {number}"
                remark = "\n" + TRUE_FACES.replace(", ", ",\n") if self.is_truth([stream]) else ""
                rows.append((label + remark, self._read_stream(stream)))
        return rows

    def is_truth(self, streams: Sequence[Path | list[Path]]) -> bool:
        """Whether the faces of these streams were rendered, not generated."""
        folders = [folder for stream in streams for folder in self._folders(stream).values()]
        return bool(folders) and all(read_set(folder).generator == TRUTH for folder in folders)

    def _folders(self, stream: Path | list[Path]) -> dict[str, Path]:
        """Fold => the folder with its faces of the first corpus; the fold is '' for all keys."""
        from norface.training.stages.cla_folds import find_sets

        return {
            fold: find_sets([stream], fold)[0][0] for fold in dict.fromkeys(self.folds or [""])
        }  # fmt: skip

    def _read_stream(self, stream: Path | list[Path]) -> list[np.ndarray | None]:
        folds = self.folds or [""] * len(self.keys)
        found: dict[str, np.ndarray | None] = {}
        target = None
        for fold, folder in self._folders(stream).items():
            keys = [key for key, own in zip(self.keys, folds, strict=True) if own == fold]
            found |= dict(zip(keys, read_faces(folder, keys), strict=True))
            picture = folder / TARGET_NAME
            if target is None and picture.is_file():
                target = read_photo(picture)
        return [target, *(found[key] for key in self.keys)]


def choose_faces(
    config: PaperConfig, experiment: str, place: ExperimentPlace, keys: list[str] | None = None
) -> Faces:
    """The faces to show of an experiment: those of `keys`, or some that act."""
    keys = choose_keys(place) if keys is None else keys
    of_folds = "{fold}" in str([*place.sets.values(), *place.targets.values()])
    folds = find_test_folds(config, experiment, place, keys) if of_folds else []
    return Faces(place, keys, folds)


def choose_keys(place: ExperimentPlace) -> list[str]:
    """Keys of the faces to show: of different persons those that act most."""
    index = ShardIndex.open(place.shards[0])
    return [index.key_of(row) for row in choose_originals(index, COLUMNS)]


def find_test_folds(
    config: PaperConfig, experiment: str, place: ExperimentPlace, keys: Sequence[str]
) -> list[str]:
    """The fold that tests the person of each key; the first fold for a person of none."""
    from norface.training.stages.cla_config import ClaConfig
    from norface.training.stages.cla_folds import open_folds, open_index

    values = read_classifier(config, experiment, place)
    data = build_config(ClaConfig, values, under=f"experiments.{experiment}.cla").data
    folds = open_folds(data, open_index(data))
    tested = {person: fold.name for fold in folds for person in fold.test}
    originals = ShardIndex.open(place.shards[0])
    rows = originals.table[["corpus", "subject"]].astype(str).to_numpy()[originals.rows_of(keys)]
    return [tested.get((corpus, subject), folds[0].name) for corpus, subject in rows]


def read_faces(folder: Path, keys: Sequence[str]) -> list[np.ndarray | None]:
    """Pictures (S, S, 3) of keys, of shards or of a folder of files KEY.png or KEY.jpg.

    Raises CorpusError where it holds none of them.
    """
    if (folder / INDEX_NAME).is_file():
        index = ShardIndex.open(folder)
        return [index.read_pixels(int(row)) for row in index.rows_of(keys)]
    there = {path.stem: path for path in folder.glob("*") if path.suffix in (".png", ".jpg")}
    if not there.keys() & set(keys):
        raise CorpusError(
            f"{folder}: no picture is named by a key, such as {keys[0]}.png; name them so, or make"
            " a normalized set of them (norface prepare normalized)"
        )
    return [read_photo(there[key]) if key in there else None for key in keys]
