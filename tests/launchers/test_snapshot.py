"""Frozen code and config: what is copied, that it reads back the same, and that edits miss it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launchers.snapshot import PROJECT, freeze, hash_contents, main, resolve, write_snapshot
from norface.config import load_config
from norface.evaluation.crossval_config import CrossvalConfig, FoldTask, fold_config

TRAIN = ["train", "nor", "data.shards=[shards]", "name=demo", "optimizer.learning_rate=3e-5"]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_frozen_command_is_the_same_run(place):
    frozen = freeze(TRAIN)
    assert frozen.folder.parent == place / "runs" / "demo" / "submitted"
    assert frozen.command == ["train", "nor", "-c", str(frozen.folder / "config.yaml")]
    assert resolve(frozen.command)[1] == resolve(TRAIN)[1]
    # The whole config, so that a changed default of the code does not reach it either.
    values = yaml.safe_load((frozen.folder / "config.yaml").read_text())
    assert values["optimizer"]["learning_rate"] == 3e-5 and values["self_pair"] == 0.3


def test_one_content_is_one_snapshot_and_another_is_another(place):
    first, again = freeze(TRAIN), freeze(TRAIN)
    other = freeze([*TRAIN, "seed=1"])
    assert first == again
    assert {path.name for path in first.folder.parent.iterdir()} == {
        first.folder.name, other.folder.name,
    }  # fmt: skip


def test_a_cross_validation_reads_back_with_its_settings_and_what_they_change(place):
    words = ["crossval", "cla.data.shards=[shards]", "cla.epochs=3", "settings.without=null"]
    words += ["settings.norface=sets/{fold}/T/G", "settings.plain.cla.model.moe.experts=0"]
    frozen = freeze([*words, "--collect"])
    assert frozen.command[:2] == ["crossval", "--collect"]
    before = load_config(CrossvalConfig, None, words[1:])
    after = load_config(CrossvalConfig, frozen.folder / "config.yaml")
    for name in before.settings:
        task = FoldTask(name, 0, "test=part2")
        assert fold_config(after, task) == fold_config(before, task)


def test_verbs_without_a_config_keep_their_words(place):
    words = ["prepare", "disfa", "/data/DISFA", "shards/disfa", "camera=right", "--side", "128"]
    frozen = freeze(words)
    assert frozen.command == words
    assert frozen.folder.parent == place / "runs" / "prepare" / "submitted"
    assert not (frozen.folder / "config.yaml").exists()


def test_an_edit_after_freezing_reaches_neither_code_nor_config(place):
    project = place / "project"
    for part in ("norface", "launchers"):
        shutil.copytree(
            PROJECT / part, project / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    snapshot = write_snapshot(place / "run", {"config.yaml": "a: 1\n"}, project=project)
    before = hash_contents(project, {"config.yaml": "a: 1\n"})
    (project / "norface" / "__init__.py").write_text("raise SystemExit('edited')\n")
    assert hash_contents(project, {"config.yaml": "a: 1\n"}) != before
    # Started in the edited project's own folder, where Python would look first.
    done = subprocess.run(
        [snapshot / ".venv" / "bin" / "python", "-m", "norface", "--version"],
        env={**os.environ, "PYTHONPATH": str(snapshot), "PYTHONSAFEPATH": "1"},
        cwd=project, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith("norface ")
    assert (snapshot / ".venv").resolve() == Path(sys.prefix).resolve()


def test_a_mistake_is_one_line_and_leaves_nothing(place, capsys):
    assert main(["train", "nor", "data.shards=[x]", "trainer.image=3"]) == 2
    error = capsys.readouterr().err
    assert "did you mean 'images'" in error and error.count("\n") == 1
    assert main(["--dry-run", *TRAIN]) == 0
    assert "runs/demo/submitted/" in capsys.readouterr().out
    assert list(place.iterdir()) == []
