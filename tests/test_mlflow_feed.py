"""One run of MLflow a run folder; its files are there as they are now, and not sent for nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from norface.mlflow_client import make_client
from norface.mlflow_feed import Feed, sync
from norface.tracking import TrackingConfig, open_run


def stored(root: Path, folder: Path, name: str) -> Path:
    """Where the store keeps a run's artifact."""
    client = make_client(f"sqlite:///{root / 'mlflow.db'}")
    run_id = json.loads((folder / "mlflow.json").read_text())["run_id"]
    experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
    place = Path(experiment.artifact_location.removeprefix("file://"))
    return place / run_id / "artifacts" / "artifacts" / name


def test_a_file_that_changes_and_keeps_its_size_is_sent_again_and_no_other(
    tmp_path,
):
    folder = tmp_path / "files"
    run = open_run(folder, kind="test", tracking=TrackingConfig())
    source = tmp_path / "table.txt"

    def write(text: str) -> None:
        source.write_text(text)
        run.log_artifact(source)

    write("f1 0.41\n")
    feed = Feed(folder)
    feed.update()
    path = stored(tmp_path, folder, source.name)
    assert path.read_text() == "f1 0.41\n"
    # The same text, written anew: for this feed, and for a later one.
    before = path.stat().st_mtime_ns
    write("f1 0.41\n")
    feed.update()
    sync([folder])
    assert path.stat().st_mtime_ns == before
    write("f1 0.42\n")
    feed.update()
    assert path.read_text() == "f1 0.42\n"
    write("f1 0.43\n")
    sync([folder])
    assert path.read_text() == "f1 0.43\n"
    # What somebody has deleted in the store comes back.
    path.unlink()
    sync([folder])
    assert path.read_text() == "f1 0.43\n"


def test_feeds_of_one_folder_at_once_make_one_run(tmp_path):
    folder = tmp_path / "once"
    open_run(folder, kind="test", tracking=TrackingConfig()).log({"loss": 1.0}, step=1)
    client = make_client(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_experiment("norface")
    feeds = [Feed(folder) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Feed.update, feeds))
    (run,) = client.search_runs([client.get_experiment_by_name("norface").experiment_id])
    assert {feed.run_id for feed in feeds} == {run.info.run_id}
