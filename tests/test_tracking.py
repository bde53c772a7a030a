"""A run folder is the truth; MLflow (a real sqlite store) is fed from it, as often as one likes."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from launchers.local import find_free_port
from norface.bench.tracking import tracking_server
from norface.cli.main import main
from norface.config import Config, load_config
from norface.errors import CheckpointError, ConfigError, hide_password
from norface.mlflow_client import import_mlflow, make_client
from norface.mlflow_feed import Feed, FeedThread, sync
from norface.tracking import TrackingConfig, open_run, read_metrics

OFF = TrackingConfig(mlflow=False)


class Settings(Config):
    """A small config with everything that a param can be."""

    rate: float = 0.1
    parts: list[int] = [1, 2]
    nothing: str | None = None
    long: str = "x" * 700
    tracking: TrackingConfig = TrackingConfig()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder whose store is made once: that takes seconds."""
    import_mlflow()
    return tmp_path_factory.mktemp("runs")


def client_of(root: Path):
    return make_client(f"sqlite:///{root / 'mlflow.db'}")


def mlflow_id(folder: Path) -> str:
    return json.loads((folder / "mlflow.json").read_text())["run_id"]


def histories(root: Path, folder: Path) -> dict[str, list[tuple[int, float]]]:
    client, run_id = client_of(root), mlflow_id(folder)
    names = client.get_run(run_id).data.metrics
    return {n: [(m.step, m.value) for m in client.get_metric_history(run_id, n)] for n in names}


def test_metrics_are_one_json_object_a_line_with_step_images_and_time(tmp_path):
    run = open_run(tmp_path / "a", kind="test", tracking=OFF)
    run.log({"loss": 0.1, "r/AU12": 0.5}, step=4, images=32)
    (text,) = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    line = json.loads(text)
    assert abs(line.pop("time") - time.time()) < 60
    assert line == {"step": 4, "images": 32, "loss": 0.1, "r/AU12": 0.5}


def test_values_that_are_not_finite_are_null(tmp_path):
    run = open_run(tmp_path / "a", kind="test", tracking=OFF)
    run.log({"auc": float("nan")}, step=1)
    assert read_metrics(tmp_path / "a")[0]["auc"] is None


def test_cutting_back_drops_later_steps_and_a_half_written_line(tmp_path):
    run = open_run(tmp_path / "a", kind="test", tracking=OFF)
    for step in (1, 2, 3):
        run.log({"loss": step / 3}, step=step)
    with open(tmp_path / "a" / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    before = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()[:2]
    run.cut_back(2)
    assert (tmp_path / "a" / "metrics.jsonl").read_text().splitlines() == before


def test_a_name_of_a_column_is_no_metric(tmp_path):
    with pytest.raises(ValueError, match="'step' is a column"):
        open_run(tmp_path / "a", kind="test", tracking=OFF).log({"step": 1}, step=1)


def test_going_on_in_a_folder_keeps_the_runs_id_and_counts_starts(tmp_path):
    first = open_run(tmp_path / "a", kind="test", tracking=OFF)
    second = open_run(tmp_path / "a", kind="test", tracking=OFF)
    assert second.id == first.id and second.facts["starts"] == 2


def test_the_code_that_ran_is_named_by_its_revision(tmp_path):
    git = open_run(tmp_path / "a", kind="test", tracking=OFF).facts["git"]
    assert git == {} or (len(git["revision"]) == 40 and isinstance(git["changed"], bool))


@pytest.mark.parametrize("error", [None, KeyError("bug")])
def test_the_end_of_a_run_is_noted(tmp_path, error):
    try:
        with open_run(tmp_path / "a", kind="test", tracking=OFF):
            if error:
                raise error
    except KeyError:
        pass
    facts = json.loads((tmp_path / "a" / "run.json").read_text())
    assert facts["status"] == ("failed" if error else "finished")


def test_a_run_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written") as caught:
        open_run(tmp_path / "a", kind="test", tracking=OFF)
    assert "\n" not in str(caught.value)


def test_mlflow_gets_metrics_params_tags_pictures_files_and_nesting(root):
    from matplotlib.figure import Figure

    config = Settings()
    tracking = TrackingConfig(experiment="synthetic-au", tags={"target": "S0001"}, system_every_s=0)
    folder = root / "parent"
    with open_run(folder, kind="crossval", tracking=tracking, config=config) as parent:
        child_tracking = parent.child_tracking(tags={"fold": "test=part1"})
        child_folder = root / "parent" / "fold-1"
        with open_run(child_folder, kind="cla", tracking=child_tracking, root=root) as child:
            child.log({"f1": 0.5, "f1/AU12": 0.25}, step=10, images=80)
            child.log({"f1": 0.75}, step=20, images=160)
        parent.log({"f1": 0.625}, step=0)
        parent.log_image("faces", np.full((8, 9, 3), 200, np.uint8), step=3)
        parent.log_figure("curve.png", Figure())
        (root / "report.html").write_text("<p>f1</p>")
        parent.log_artifact(root / "report.html")

    client = client_of(root)
    run = client.get_run(mlflow_id(folder))
    assert run.info.status == "FINISHED"
    assert run.data.params["rate"] == "0.1" and run.data.params["parts"] == "[1, 2]"
    assert run.data.params["nothing"] == "null" and len(run.data.params["long"]) == 500
    assert run.data.tags["mlflow.runName"] == "parent" and run.data.tags["target"] == "S0001"
    assert len(run.data.tags["config_hash"]) == 12 and run.data.tags["kind"] == "crossval"
    files = [item.path for item in client.list_artifacts(run.info.run_id, "artifacts")]
    assert files == ["artifacts/curve.png", "artifacts/report.html"]
    pictures = [item.path for item in client.list_artifacts(run.info.run_id, "images")]
    assert any(path.startswith("images/faces+step+3+") for path in pictures)
    below = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    (nested,) = client.search_runs([run.info.experiment_id], below)
    assert nested.data.tags["fold"] == "test=part1"
    assert nested.data.tags["mlflow.runName"] == "parent/fold-1"
    assert histories(root, child_folder) == {
        "f1": [(10, 0.5), (20, 0.75)],
        "f1/AU12": [(10, 0.25)],
    }
    place = client.get_experiment(run.info.experiment_id).artifact_location
    assert place == (root / "mlartifacts" / "synthetic-au").as_uri()


def test_feeding_twice_changes_nothing_and_more_steps_are_added(root):
    folder = root / "twice"
    run = open_run(folder, kind="test", tracking=TrackingConfig())
    run.log({"loss": 1.0}, step=1)
    sync([folder])
    first_id = mlflow_id(folder)
    run.log({"loss": 0.5}, step=2)
    run.finish("stopped")
    sync([folder])
    sync([folder])
    assert mlflow_id(folder) == first_id
    assert histories(root, folder) == {"loss": [(1, 1.0), (2, 0.5)]}
    assert client_of(root).get_run(first_id).info.status == "KILLED"


def test_a_run_whose_mlflow_id_was_lost_is_found_again(root):
    folder = root / "lost"
    open_run(folder, kind="test", tracking=TrackingConfig()).log({"loss": 1.0}, step=1)
    sync([folder])
    first_id = mlflow_id(folder)
    (folder / "mlflow.json").unlink()
    sync([folder])
    assert mlflow_id(folder) == first_id


def test_steps_written_again_after_a_resume_are_not_doubled(root):
    folder = root / "resumed"
    run = open_run(folder, kind="test", tracking=TrackingConfig())
    feed = Feed(folder)
    for step in (1, 2, 3):
        run.log({"loss": float(step)}, step=step)
    feed.update()
    run.cut_back(1)
    for step in (2, 3, 4):
        run.log({"loss": float(step)}, step=step)
    feed.update()
    assert histories(root, folder) == {"loss": [(1, 1), (2, 2), (3, 3), (4, 4)]}


def test_a_half_written_line_waits_for_its_end(root):
    folder = root / "half"
    run = open_run(folder, kind="test", tracking=TrackingConfig())
    feed = Feed(folder)
    run.log({"loss": 1.0}, step=1)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "time": 9e9, ')
    feed.update()
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('"loss": 0.5}\n')
    feed.update()
    assert histories(root, folder) == {"loss": [(1, 1.0), (2, 0.5)]}


def test_runs_that_bring_the_same_data_at_once_all_name_it(root):
    data = {
        "name": "bp4d", "corpora": ["bp4d"], "digest": "0123456789ab", "source": "shards/bp4d",
        "context": "training", "pictures": 10, "persons": 2,
    }  # fmt: skip
    folders = [root / f"data{number}" for number in range(6)]
    for folder in folders:
        open_run(folder, kind="test", tracking=TrackingConfig(), task="au", datasets=[data])
    with ThreadPoolExecutor(len(folders)) as pool:
        list(pool.map(lambda folder: Feed(folder).update(), folders))
    client = client_of(root)
    for folder in folders:
        run = client.get_run(mlflow_id(folder))
        (one,) = run.inputs.dataset_inputs
        assert (one.dataset.name, one.dataset.digest) == ("bp4d", "0123456789ab")
        assert client.get_experiment(run.info.experiment_id).name == "bp4d-au"


def test_more_than_one_call_of_metrics_arrives_whole(root):
    folder = root / "many"
    run = open_run(folder, kind="test", tracking=TrackingConfig())
    for step in range(4):
        run.log({f"m{i}": float(i) for i in range(300)}, step=step)
    sync([folder])
    found = histories(root, folder)
    assert len(found) == 300 and all(len(history) == 4 for history in found.values())


def test_a_store_that_is_down_costs_nothing_and_is_fed_later(root, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = root / "down"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    started = time.monotonic()
    with open_run(folder, kind="test", tracking=TrackingConfig(system_every_s=0)) as run:
        run.log({"loss": 1.0}, step=1)
    assert time.monotonic() - started < 10
    said = capsys.readouterr().err
    assert "secret" not in said
    assert said.count("MLflow is not fed for now") == 1
    assert f"norface track sync {folder}" in said
    assert main(["track", "sync", str(folder)]) == 2
    assert "secret" not in capsys.readouterr().err
    store = f"sqlite:///{root / 'mlflow.db'}"
    assert main(["track", "sync", str(folder), "--uri", store]) == 0
    assert histories(root, folder) == {"loss": [(1, 1.0)]}


def test_sync_of_a_folder_that_is_no_run_is_one_line(tmp_path, capsys):
    assert main(["track", "sync", str(tmp_path)]) == 2
    assert "no run.json" in capsys.readouterr().err


def test_a_password_in_a_stores_address_is_not_shown():
    assert hide_password("postgresql://u:p@host:5432/db") == "postgresql://host:5432/db"
    assert hide_password("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_a_password_in_the_config_is_refused():
    with pytest.raises(ConfigError, match="does not belong in a config"):
        load_config(TrackingConfig, None, ["uri=https://me:word@tracking.lab"])


@pytest.mark.slow
def test_a_server_that_is_down_for_the_middle_third_loses_nothing_and_blocks_nothing(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    port = find_free_port()
    uri = f"http://127.0.0.1:{port}"
    folder = tmp_path / "run"
    run = open_run(folder, kind="test", tracking=TrackingConfig(uri=uri))
    slowest = 0.0

    def log(steps: range) -> None:
        nonlocal slowest
        for step in steps:
            started = time.monotonic()
            run.log({"loss": 1 / (step + 1)}, step=step)
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.02)
        run.log_image("samples", np.zeros((8, 8, 3), np.uint8), step=steps.stop)

    with tracking_server(tmp_path, port):
        thread = FeedThread(folder, every_s=0.5)
        log(range(0, 100))
        deadline = time.monotonic() + 60
        while not thread.up_to_date and time.monotonic() < deadline:
            time.sleep(0.1)
        assert thread.up_to_date
    log(range(100, 200))
    with tracking_server(tmp_path, port):
        log(range(200, 300))
        run.finish()
        thread.finish(patience_s=60)
        client = make_client(uri)
        history = client.get_metric_history(mlflow_id(folder), "loss")
        assert sorted(metric.step for metric in history) == list(range(300))
        pictures = client.list_artifacts(mlflow_id(folder), "images")
        assert len([item for item in pictures if item.path.endswith(".png")]) == 3
        assert client.get_run(mlflow_id(folder)).info.status == "FINISHED"
    assert slowest < 0.5
