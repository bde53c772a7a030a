"""Where folds to compare come from: run folders, files of predictions, or MLflow.

    settings = read_folder(Path("runs/crossval"))        # every setting below it
    settings = read_mlflow("bp4d-au", uri=None)          # the same, from the runs' artifacts

Both read the same predictions.parquet, so both give the same figures.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from norface.data.listing import find_files
from norface.errors import CorpusError, TrackingError
from norface.evaluation.collecting import PREDICTIONS_FILE
from norface.evaluation.predictions import read_predictions
from norface.tracking import ARTIFACTS, read_facts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ORDER_TAG = "settings"
"Tag of a cross-validation's run: its settings in their order, the first being the baseline."


@dataclasses.dataclass
class FoldSet:
    """One setting of one cross-validation: its folds' predictions."""

    name: str
    task: str
    folds: dict[str, list[pd.DataFrame]]
    "Fold => its predictions, a table a seed."
    owner: str = ""
    "Folder or run of its cross-validation."
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    "What to know of it beside the figures: target, git revision."


@dataclasses.dataclass(frozen=True)
class _Piece:
    """One file of predictions and where it belongs."""

    owner: str
    "Folder or run of the cross-validation."
    setting: str
    seed: str
    path: Path
    facts: dict[str, str]
    place: int = 0
    "Of its setting among those of the cross-validation."


def read_folder(path: Path) -> list[FoldSet]:
    """The settings below a folder (a cross-validation, one setting, one fold) or of one file.

    Raises CorpusError where there are no predictions, and for a folder that may not be read: folds
    of a comparison are never missing in silence.
    """
    paths = [path] if path.is_file() else []
    if path.is_dir():
        paths = find_files(path, PREDICTIONS_FILE)
    if not paths:
        what = f"no {PREDICTIONS_FILE} below it" if path.is_dir() else "no such file or folder"
        raise CorpusError(f"{path}: {what}; give the folder of a cross-validation or of a fold")
    return _group([_describe_file(one, path) for one in paths])


def _describe_file(path: Path, given: Path) -> _Piece:
    facts = read_facts(path.parent)
    tags = {name: str(value) for name, value in facts.get("tags", {}).items()}
    setting = tags.get("setting", given.name if given.is_dir() else path.stem)
    # ROOT/NAME/SETTING/seedS/FOLD
    is_fold = "setting" in tags and len(path.parents) > 3
    owner = path.parents[3] if is_fold else given
    order = str(read_facts(owner).get("tags", {}).get(ORDER_TAG, ""))
    seed, about = tags.get("seed", "0"), _choose_facts(tags, facts)
    return _Piece(str(owner), setting, seed, path, about, _place_of(setting, order))


def _place_of(setting: str, order: str) -> int:
    names = order.split(", ")
    return names.index(setting) if setting in names else len(names)


def _choose_facts(tags: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, str]:
    revision = (facts.get("git") or {}).get("revision", "")[:12]
    found = {"target": tags.get("target", ""), "git": revision}
    return {name: value for name, value in found.items() if value}


def _group(pieces: Sequence[_Piece]) -> list[FoldSet]:
    """Files => settings, in the order of their cross-validation; seeds of a fold in theirs."""
    sets: dict[tuple[str, str], FoldSet] = {}
    for piece in sorted(pieces, key=lambda one: int(one.seed) if one.seed.isdigit() else 0):
        table, task = read_predictions(piece.path)
        key = (piece.owner, piece.setting)
        found = sets.setdefault(
            key, FoldSet(piece.setting, task, {}, piece.owner, dict(piece.facts))
        )
        if found.task != task:
            raise CorpusError(
                f"{piece.path}: predictions of the task {task} beside others of {found.task}"
            )
        for fold, part in table.groupby("fold", sort=False):
            found.folds.setdefault(str(fold), []).append(part.reset_index(drop=True))
    owners = list(dict.fromkeys(piece.owner for piece in pieces))
    ordered = sorted(pieces, key=lambda one: (owners.index(one.owner), one.place))
    order = list(dict.fromkeys((piece.owner, piece.setting) for piece in ordered))
    for one in sets.values():
        one.folds = {fold: one.folds[fold] for fold in sorted(one.folds)}
    return [sets[key] for key in order]


def read_mlflow(name: str, uri: str | None = None) -> list[FoldSet]:
    """The settings of MLflow's run `name` (its id there, or the id in run.json), or of all
    cross-validations of the experiment `name`, by the predictions that each fold's run holds.

    Raises TrackingError where the store cannot be reached, or knows no such run or experiment.
    """
    from norface.errors import hide_password
    from norface.mlflow_client import default_uri, import_mlflow, make_client, reason

    import_mlflow()
    uri = uri or default_uri()
    client = make_client(uri)
    try:
        parents = _find_parents(client, name)
        with tempfile.TemporaryDirectory(prefix="norface-compare-") as place:
            pieces = [
                piece for parent in parents for piece in _fetch_folds(client, parent, Path(place))
            ]
            if not pieces:
                raise TrackingError(
                    f"{name}: none of its runs in {hide_password(uri)} holds predictions; feed"
                    " them with norface track sync, or compare the run folders"
                )
            return _group(pieces)
    except (TrackingError, CorpusError):
        raise
    except Exception as error:
        raise TrackingError(f"{hide_password(uri)}: cannot be read ({reason(error)})") from error


def _find_parents(client: MlflowClient, name: str) -> list[Run]:
    """Runs whose children are compared, the oldest first."""
    from mlflow.exceptions import MlflowException

    from norface.mlflow_feed import RUN_TAG

    experiments = {one.experiment_id: one.name for one in client.search_experiments()}
    for key, known in experiments.items():
        if known == name:
            found = client.search_runs([key], "tags.kind = 'crossval'", order_by=["start_time ASC"])
            if not found:
                raise TrackingError(f"{name}: this experiment has no cross-validation")
            return list(found)
    quoted = name.replace("'", "")
    by_own_id = client.search_runs(list(experiments), f"tags.`{RUN_TAG}` = '{quoted}'")
    if by_own_id:
        return list(by_own_id[:1])
    try:
        return [client.get_run(name)]
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    raise TrackingError(
        f"'{name}' is neither a run nor an experiment; there are the experiments"
        f" {', '.join(sorted(experiments.values()))}"
    )


def _fetch_folds(client: MlflowClient, parent: Run, place: Path) -> Iterator[_Piece]:
    """The predictions of a run's children, setting by setting in the order of the names."""
    below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children, token = [], None
    while True:
        page = client.search_runs([parent.info.experiment_id], below, page_token=token)
        children += list(page)
        token = page.token
        if not token:
            break
    for child in sorted(children, key=lambda run: run.data.tags.get("mlflow.runName", "")):
        tags = child.data.tags
        if "fold" not in tags or not _has_predictions(client, child.info.run_id):
            continue
        folder = place / child.info.run_id
        folder.mkdir()
        remote = f"{ARTIFACTS}/{PREDICTIONS_FILE}"
        path = Path(client.download_artifacts(child.info.run_id, remote, str(folder)))
        git = {"git": {"revision": tags.get("mlflow.source.git.commit", "")}}
        owner = parent.data.tags.get("mlflow.runName", parent.info.run_id)
        yield _Piece(
            owner,
            tags.get("setting", owner),
            tags.get("seed", "0"),
            path,
            _choose_facts(tags, git),
            _place_of(tags.get("setting", owner), parent.data.tags.get(ORDER_TAG, "")),
        )


def _has_predictions(client: MlflowClient, run_id: str) -> bool:
    names = {item.path for item in client.list_artifacts(run_id, ARTIFACTS)}
    return f"{ARTIFACTS}/{PREDICTIONS_FILE}" in names
