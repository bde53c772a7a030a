"""Cross-validation above stage `cla`: settings side by side, folds as jobs, summaries."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from marked_faces import stage_options, write_corpus
from ranks import wait_for

from norface.cli.main import main
from norface.config import load_config
from norface.data.folds import make_folds
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, LaunchError
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, fold_config, list_tasks
from norface.evaluation.protocols import cross_validate
from norface.tracking import read_facts


def crossval_options(shards: Path) -> list[str]:
    """key=value of a tiny cross-validation, without root."""
    given = stage_options(shards, Path("unused"))
    cla = ["cla." + text for text in given if not text.startswith(("root", "tracking", "epochs"))]
    return [*cla, "cla.epochs=1", "tracking.mlflow=false"]


def test_crossval_compares_settings_and_trains_nothing_twice(corpus, tmp_path, capsys):
    index = ShardIndex.open(corpus / "shards")
    keys = index.table["key"].to_numpy(str)
    np.savez(tmp_path / "critics.npz", keys=keys, features=index.labels("au", [1, 12]))
    options = crossval_options(corpus / "shards")
    words = ["crossval", *options, "cla.epochs=1", f"root={tmp_path}", "tracking.mlflow=false"]
    words += ["settings.without=null", f"settings.features={tmp_path / 'critics.npz'}"]
    assert main([*words, "only=[test=part2]"]) == 0
    assert "4 folds are not trained yet" in capsys.readouterr().out
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "features - without" in text
    result = json.loads((tmp_path / "crossval" / "crossval.json").read_text())
    assert list(result["settings"]) == ["without", "features"]
    assert result["settings"]["without"]["frames"] == 72
    paths = sorted((tmp_path / "crossval").glob("without/seed0/*/predictions.parquet"))
    tables = pd.concat(map(pd.read_parquet, paths))
    assert sorted(tables["key"].unique()) == sorted(keys)
    before = [path.stat().st_mtime_ns for path in paths]
    assert main(words) == 0
    assert [path.stat().st_mtime_ns for path in paths] == before


@pytest.mark.slow
def test_folds_trained_at_once_predict_what_they_predict_one_after_the_other(
    corpus, tmp_path, capsys
):
    options = crossval_options(corpus / "shards")
    for processes in (1, 2):
        root = tmp_path / str(processes)
        words = ["crossval", *options, "cla.epochs=1", f"root={root}", "tracking.mlflow=false"]
        assert main([*words, f"processes={processes}"]) == 0
    tables = [
        pd.concat(map(pd.read_parquet, sorted((tmp_path / n).rglob("predictions.parquet"))))
        for n in ("1", "2")
    ]
    assert list(tables[0]["key"]) == list(tables[1]["key"])
    np.testing.assert_allclose(tables[0]["score"], tables[1]["score"], atol=1e-5)
    logs = sorted((tmp_path / "2").rglob("log.txt"))
    assert len(logs) == 3 and all("cla:" in log.read_text() for log in logs)
    # A fold that cannot be trained ends the whole in one line.
    words = ["crossval", *options, f"root={tmp_path / '3'}", "tracking.mlflow=false"]
    capsys.readouterr()
    assert main([*words, "processes=2", "settings.bad=/nowhere"]) == 2
    assert "1 sets are asked for, /nowhere is no folder" in capsys.readouterr().err


def test_a_setting_changes_the_classifier_and_nothing_else(corpus, tmp_path):
    options = [*crossval_options(corpus / "shards"), f"root={tmp_path}"]
    changes = ["settings.without=null", "settings.plain.cla.model.moe.experts=0"]
    config = load_config(CrossvalConfig, None, [*options, *changes])
    whole, plain = (
        fold_config(config, FoldTask(name, 0, "test=part2")).model_dump()
        for name in ("without", "plain")
    )
    assert plain["model"]["moe"].pop("experts") == 0
    assert whole["model"]["moe"].pop("experts") == 4
    assert plain.pop("name") == "crossval/plain/seed0/test=part2"
    whole.pop("name")
    assert whole == plain
    wrong = load_config(CrossvalConfig, None, [*options, "settings.odd.cla.model.moe.expert=1"])
    with pytest.raises(ConfigError, match="unknown key 'settings.odd.cla.model.moe.expert'; did"):
        list_tasks(wrong)


def test_folds_are_jobs_of_their_own_and_are_collected(corpus, tmp_path, capsys):
    words = ["crossval", *crossval_options(corpus / "shards"), f"root={tmp_path}"]
    assert main([*words, "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    for part in (1, 2):
        assert main([*words, f"part={part}/3"]) == 0
    capsys.readouterr()
    assert main([*words, "--collect"]) == 2
    assert "1 folds are not trained yet: without/seed0/test=part3" in capsys.readouterr().err
    assert main([*words, "part=3/3"]) == 0
    assert "part 3/3: without/seed0/test=part3" in capsys.readouterr().out
    assert not (tmp_path / "crossval" / "crossval.json").exists()
    assert main([*words, "--collect"]) == 0
    assert "f1 in %, 72 frames of 9 persons" in capsys.readouterr().out
    parent = read_facts(tmp_path / "crossval")
    assert parent["status"] == "finished"
    folds = sorted((tmp_path / "crossval" / "without" / "seed0").iterdir())
    assert {read_facts(fold)["parent"] for fold in folds} == {parent["id"]}
    result = json.loads((tmp_path / "crossval" / "crossval.json").read_text())
    tested = [person for persons in result["subjects"].values() for person in persons]
    assert sorted(tested) == [f"synthetic/S{i:04d}" for i in range(9)]


def test_jobs_that_start_at_once_share_one_parent(tmp_path, corpus):
    import multiprocessing

    from norface.evaluation.protocols import claim_run

    config = load_config(
        CrossvalConfig, None, [*crossval_options(corpus / "shards"), f"root={tmp_path}"]
    )
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    work = lambda: queue.put(claim_run(config))
    jobs = [context.Process(target=work) for _ in range(4)]
    for job in jobs:
        job.start()
    ids = [queue.get(timeout=60) for _ in jobs]
    assert wait_for(jobs) == [0] * 4
    assert set(ids) == {read_facts(tmp_path / "crossval")["id"]}


@pytest.mark.parametrize("part", [[], ["part=1/1"]])
def test_a_set_that_is_not_there_is_told_before_the_first_fold(corpus, tmp_path, capsys, part):
    words = ["crossval", *crossval_options(corpus / "shards"), f"root={tmp_path}", *part]
    for given, message in (
        (
            tmp_path / "gone",
            f"settings.norface: data.normalized: .*{tmp_path / 'gone'} is no folder",
        ),
        (corpus / "shards", f"settings.norface: {corpus / 'shards'}: holds no set.json"),
        (tmp_path / "gone.npz", f"settings.norface: {tmp_path / 'gone.npz'}: no such file"),
    ):
        assert main([*words, "settings.without=null", f"settings.norface={given}"]) == 2
        error = capsys.readouterr().err
        assert re.search(message, error) and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_fold_without_labels_to_be_tested_by_is_told_before_the_first_fold(tmp_path, capsys):
    """Its mean would be of other units than that of the other folds."""
    folds = make_folds([("synthetic", f"S{i:04d}") for i in range(9)], parts=3, seed=0)
    others = [subject for fold in folds[1:] for _, subject in fold.test]
    shards = write_corpus(tmp_path / "few", units=(1, 12, 4), only=(4, others))
    words = ["crossval", *crossval_options(shards), "cla.units=[1, 4]", f"root={tmp_path / 'runs'}"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert f"fold '{folds[0].name}': the test subjects have no label for AU4; choose" in error
    assert not (tmp_path / "runs").exists()


def test_several_ranks_are_for_parts_only(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = load_config(
        CrossvalConfig, None, [*crossval_options(corpus / "shards"), f"root={tmp_path}"]
    )
    with pytest.raises(LaunchError, match="with part=I/N"):
        cross_validate(config)


@pytest.mark.slow
def test_two_ranks_predict_every_frame_of_a_fold_once(corpus, tmp_path):
    from launchers.local import main as launch

    words = [*crossval_options(corpus / "shards"), f"root={tmp_path}", "part=1/3"]
    words[words.index("cla.trainer.batch_per_rank=8")] = "cla.trainer.batch_per_rank=4"
    assert launch(["--ranks", "2", "--", "crossval", *words]) == 0
    found = pd.read_parquet(
        tmp_path / "crossval" / "without" / "seed0" / "test=part1" / "predictions.parquet"
    )
    assert found["key"].nunique() == 24 and len(found) == 48


@pytest.mark.slow
def test_a_picture_that_one_rank_cannot_read_when_it_predicts_ends_all_with_its_name(
    tmp_path, capfd
):
    from launchers.local import main as launch

    shards = write_corpus(tmp_path / "shards")
    words = [*crossval_options(shards), f"root={tmp_path}", "part=1/3"]
    words[words.index("cla.trainer.batch_per_rank=8")] = "cla.trainer.batch_per_rank=4"
    index = ShardIndex.open(shards)
    tested = make_folds(index.persons, parts=3, seed=0)[0].test
    # The last but one is read by the last rank, and not drawn into a sample grid.
    damaged = index.table.iloc[index.rows_of_persons(tested)[-2]]
    with open(index.shard_paths[0], "r+b") as file:
        file.seek(int(damaged["image_offset"]))
        file.write(bytes(int(damaged["image_size"])))
    # Without waiting for what torch calls a time-out, half an hour.
    assert launch(["--ranks", "2", "--", "crossval", *words]) == 2
    assert str(damaged["key"]) in capfd.readouterr().err
