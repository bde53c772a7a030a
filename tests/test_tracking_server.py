"""A cross-validation in a real MLflow server: nesting, data, models, pictures, and `compare`."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from launchers.local import find_free_port
from norface.bench.tracking import tracking_server
from norface.cli.main import main
from norface.data.shards import ShardIndex
from norface.images import decode_jpeg
from norface.mlflow_client import make_client
from norface.mlflow_feed import sync
from norface.system_metrics import SystemMonitor
from norface.tracking import TrackingConfig, open_run, read_metrics

sys.path.append(str(Path(__file__).parent / "training"))
from marked_faces import stage_options, write_corpus, write_normalized

SETTINGS = ("without", "norface")


@pytest.fixture(scope="module")
def crossval(tmp_path_factory):
    """(folder, address): two settings of three folds each, trained, in a server that runs."""
    root = tmp_path_factory.mktemp("server")
    shards = write_corpus(root / "shards")
    faces = write_normalized(shards, root / "normalized")
    port = find_free_port()
    uri = f"http://127.0.0.1:{port}"
    given = stage_options(shards, Path("unused"))
    cla = ["cla." + text for text in given if not text.startswith(("root", "tracking", "epochs"))]
    words = [*cla, "cla.epochs=2", f"root={root / 'runs'}", f"tracking.uri={uri}"]
    words += ["settings.without=null", f"settings.norface={faces}", "tracking.system_every_s=1"]
    with tracking_server(root, port):
        assert main(["crossval", *words]) == 0
        # On a machine with other work a run may end before the server has all of it.
        sync([root / "runs" / "crossval"], uri)
        yield root / "runs" / "crossval", uri


def children(client, parent):
    below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    return client.search_runs([parent.info.experiment_id], below)


def parent_of(folder: Path, uri: str):
    client = make_client(uri)
    return client, client.get_run(json.loads((folder / "mlflow.json").read_text())["run_id"])


@pytest.mark.slow
def test_folds_are_children_below_corpus_and_task_with_what_ui_columns_need(crossval):
    folder, uri = crossval
    client, parent = parent_of(folder, uri)
    assert client.get_experiment(parent.info.experiment_id).name == "synthetic-au"
    assert parent.data.tags["settings"] == "without, norface"
    assert parent.data.tags["mlflow.note.content"].startswith("| f1, % | test=part1 |")
    assert {"norface/f1", "norface/f1_sd", "norface/f1/AU12"} <= parent.data.metrics.keys()
    runs = children(client, parent)
    found = {(run.data.tags["setting"], run.data.tags["fold"]) for run in runs}
    assert found == {(s, f"test=part{n}") for s in SETTINGS for n in (1, 2, 3)}
    for run in runs:
        tags, metrics = run.data.tags, run.data.metrics
        assert run.info.status == "FINISHED" and tags["stage"] == "cla" and tags["seed"] == "0"
        assert len(tags["config_hash"]) == 12
        assert ("target" in tags) == (tags["setting"] == "norface")
        assert {"test/f1", "test/f1/AU12", "test/auc/AU1", "test/accuracy"} <= metrics.keys()
        assert metrics["system/process_memory_usage_megabytes"] > 50
        # The oracle: the summary that the terminal printed.
        result = json.loads((folder / "crossval.json").read_text())
        cell = result["settings"][tags["setting"]]["folds"][tags["fold"]]
        assert metrics["test/f1/AU12"] == pytest.approx(cell["AU12"], abs=1e-6)


@pytest.mark.slow
def test_a_run_names_its_data_and_shows_pictures_by_step(crossval):
    folder, uri = crossval
    client, parent = parent_of(folder, uri)
    (run,) = [
        run for run in children(client, parent)
        if (run.data.tags["setting"], run.data.tags["fold"]) == ("norface", "test=part2")
    ]  # fmt: skip
    data = {one.dataset.name: one for one in run.inputs.dataset_inputs}
    assert set(data) == {"synthetic", "synthetic as other_T0000_c_0"}
    profile = json.loads(data["synthetic"].dataset.profile)
    assert profile == {"num_rows": 72, "num_persons": 9}
    index = folder.parents[1] / "shards" / "index.parquet"
    assert data["synthetic"].dataset.digest == hashlib.sha256(index.read_bytes()).hexdigest()[:12]
    names = [item.path for item in client.list_artifacts(run.info.run_id, "images")]
    for name in ("confusion+step", "confusion_test+step", "samples+step"):
        assert any(path.startswith(f"images/{name}") for path in names), name
    steps = {int(p.split("+step+")[1].split("+")[0]) for p in names if p.startswith("images/conf")}
    assert len(steps) == 2


@pytest.mark.slow
def test_the_model_that_mlflow_hands_out_predicts_what_the_fold_predicted(crossval, monkeypatch):
    import mlflow

    folder, uri = crossval
    client, parent = parent_of(folder, uri)
    experiment = parent.info.experiment_id
    models = client.search_logged_models([experiment])
    assert len(models) == 6 and {str(model.status) for model in models} == {"READY"}
    fold = folder / "norface" / "seed0" / "test=part1"
    run_id = json.loads((fold / "mlflow.json").read_text())["run_id"]
    (one,) = [model for model in models if model.source_run_id == run_id]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{one.model_id}")
    root = folder.parents[1]
    streams = [ShardIndex.open(root / name) for name in ("shards", "normalized")]
    table = pd.read_parquet(fold / "predictions.parquet")
    keys = list(table["key"].unique())
    faces = np.stack(
        [
            [decode_jpeg(index.read_record(index.row_of(key)).image) for index in streams]
            for key in keys
        ]
    )
    scores = loaded.predict({"faces": faces})
    expected = table.pivot(index="key", columns="target", values="score").loc[keys, ["AU1", "AU12"]]
    np.testing.assert_allclose(scores, expected.to_numpy(), atol=1e-5)
    kept = {path.name for path in root.rglob("*") if one.model_id in str(path)}
    assert {"MLmodel", "classifier.safetensors"} <= kept
    assert not any(name.endswith((".pkl", ".pth", ".bin")) for name in kept)


@pytest.mark.slow
def test_folds_compared_from_the_server_are_those_compared_from_their_folders(crossval, tmp_path):
    folder, uri = crossval
    _, parent = parent_of(folder, uri)
    found = {}
    for name, words in {
        "folders": [str(folder)],
        "experiment": ["--mlflow", "synthetic-au", "--uri", uri],
        "run": ["--mlflow", parent.info.run_id, "--uri", uri],
    }.items():
        path = tmp_path / f"{name}.json"
        assert main(["compare", *words, "--json", str(path)]) == 0
        found[name] = json.loads(path.read_text())
    assert list(found["folders"]["settings"]) == ["without", "norface"]
    assert found["experiment"] == found["folders"] and found["run"] == found["folders"]


@pytest.mark.slow
def test_an_experiment_that_is_not_there_is_one_line_with_those_that_are(crossval, capsys):
    _, uri = crossval
    assert main(["compare", "--mlflow", "bp4d-au", "--uri", uri]) == 2
    said = capsys.readouterr().err
    assert "neither a run nor an experiment" in said and "synthetic-au" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_feeding_a_finished_cross_validation_again_changes_nothing(crossval):
    folder, uri = crossval
    client, parent = parent_of(folder, uri)

    def everything():
        runs = [*children(client, parent), parent]
        models = client.search_logged_models([parent.info.experiment_id])
        return [
            (
                run.info.run_id,
                {
                    name: [
                        (m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)
                    ]
                    for name in ("test/f1", "loss")
                },
                sorted(item.path for item in client.list_artifacts(run.info.run_id, "images")),
                len(client.get_run(run.info.run_id).inputs.dataset_inputs),
            )
            for run in runs
        ], sorted(model.model_id for model in models)

    before = everything()
    sync([folder, *folder.glob("*/seed0/*")])
    assert everything() == before


def test_a_machine_is_watched_into_a_file_that_goes_on_after_a_restart(tmp_path):
    off = TrackingConfig(mlflow=False, system_every_s=0.1)
    for _ in range(2):
        with open_run(tmp_path / "a", kind="test", tracking=off):
            sum(range(3_000_000))
    lines = read_metrics(tmp_path / "a", "system.jsonl")
    assert [line["step"] for line in lines] == list(range(len(lines))) and len(lines) >= 2
    assert all(0 <= line["system/cpu_utilization_percentage"] <= 100 for line in lines)
    assert not (tmp_path / "a" / "metrics.jsonl").exists()
    none = TrackingConfig(mlflow=False, system_every_s=0)
    with open_run(tmp_path / "b", kind="test", tracking=none):
        pass
    assert not (tmp_path / "b" / "system.jsonl").exists()


def test_a_disk_that_is_full_does_not_end_a_training(tmp_path):
    (tmp_path / "folder").mkdir()
    monitor = SystemMonitor(tmp_path / "folder" / "no" / "system.jsonl", 0.05)
    monitor.stop()
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.slow
def test_several_processes_log_at_once_and_nothing_is_lost(tmp_path):
    from norface.bench.tracking import GOAL, bench_tracking

    found = bench_tracking(tmp_path, processes=4, seconds=10)
    assert found.lost == 0 and found.written >= 4 * 20 * 5
    assert found.blocked < GOAL
    # The count can fail: a value that the server has not got is one.
    from norface.bench.tracking import count_lost

    run = tmp_path / "runs" / "run00"
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 999999, "time": 0, "loss/00": 1.0}\n')
    assert count_lost(tmp_path / "server.db", [run])[1] == 1
