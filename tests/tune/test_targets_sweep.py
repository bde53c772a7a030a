"""Sweeps over target faces: who may be one, and that the winner can be trained in full."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sweeps import BASE, NETWORKS, PROJECT, run_search

from norface.config import load_config
from norface.data.shards import ShardIndex, ShardWriter
from norface.errors import ConfigError, WeightsError
from norface.evaluation.crossval_config import CrossvalConfig, list_folds
from norface.models.mediapipe import find_task_file
from norface.synthetic.corpus import write_corpus
from norface.tracking import read_facts
from norface.training.run import run_stage
from norface.training.stages.nor import NorStage
from norface.training.stages.nor_config import NorConfig
from tune.candidates import refuse_active
from tune.config import NormalizeChoice
from tune.folder import list_trials
from tune.sweep import Sweep, load_sweep

pytestmark = pytest.mark.slow


def strengths(index: ShardIndex) -> np.ndarray:
    """The strongest labelled unit of each picture."""
    return index.labels("intensity", (1, 2, 4, 6, 7, 9, 10, 12, 15, 17, 25, 26)).max(axis=1)


def relabel(source: Path, folder: Path, corpus: str) -> ShardIndex:
    """The same pictures of another corpus, labelled as showing nothing: the blue box of Fig. 4."""
    index = ShardIndex.open(source)
    with ShardWriter(folder, side=64) as writer:
        for row in range(len(index)):
            record = index.read_record(row)
            facts = {
                "corpus": corpus,
                "intensity": dict.fromkeys(record.intensity, 0.0),
                "presence": dict.fromkeys(record.presence, 0),
            }
            writer.write(dataclasses.replace(record, **facts))
    return ShardIndex.open(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """shards/folds to classify, shards/others with candidates, a generator a fold, base.yaml."""
    folder = tmp_path_factory.mktemp("place")
    about = {"side": 64, "seed": 0, "workers": 1}
    write_corpus(folder / "shards/folds", pool="folds", subjects=6, frames=8, **about)
    write_corpus(
        folder / "shards/others", pool="normalizer", subjects=4, frames=3, clip_frames=3, **about
    )
    base = {
        "cla": {**BASE["cla"], "epochs": 1, "data": {"shards": ["shards/folds"]}},
        "tracking": {"mlflow": False},
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    words = [
        f"data.shards=[{folder}/shards/others]", f"root={folder}/nor", "backend.device=cpu",
        "trainer={images: 8, batch_per_rank: 4}", "tracking.mlflow=false", *NETWORKS,
    ]  # fmt: skip
    trained = run_stage(NorStage, load_config(NorConfig, None, words))
    base["cla"]["data"]["shards"] = [str(folder / "shards/folds")]
    for fold in list_folds(CrossvalConfig.model_validate(base)):
        (folder / "runs" / fold / "nor").mkdir(parents=True)
        shutil.copy(trained / "generator.safetensors", folder / "runs" / fold / "nor")
    return folder


def words_for(place: Path, keys: list[str], **normalize: str) -> list[str]:
    """What makes the shipped config one of this place."""
    shutil.copy(PROJECT / "configs" / "tune" / "targets.yaml", place / "sweep.yaml")
    choice = {"shards": "shards/folds", "target_shards": "shards/others", **normalize}
    return [
        "base=base.yaml", "changes={cla.data.shards: [shards/folds]}", "tracking.mlflow=false",
        f"space.target.grid={json.dumps(keys)}", "budget.epochs=1", "resources={cpus: 1}",
        *(f"normalize.{name}={value}" for name, value in choice.items()),
    ]  # fmt: skip


@pytest.mark.parametrize("folds", [None, ["test=part1"]])
def test_a_sweep_like_the_shipped_one_runs_and_its_command_retrains_the_winner(folds, place):
    pytest.importorskip("submitit", reason="pip install norface[cluster]")
    index = ShardIndex.open(place / "shards/others")
    keys, strength = index.table["key"].to_numpy(str), strengths(index)
    active = str(keys[strength.argmax()])
    # One that is left of two is a sweep, too.
    at_rest = 2 if folds is None else 1
    given = [*map(str, keys[strength == 0][:at_rest]), active]
    name = "all" if folds is None else "one"
    words = words_for(place, given, out=f"normalized-{name}")
    words += [f"name={name}", f"folds={json.dumps(folds)}"]
    text = run_search(place, *words, "--here", module="tune.array")
    assert f"space.target: {active} is refused: it is labelled" in text
    trials = list_trials(place / "runs" / name)
    assert [(t.values["target"], t.state) for t in trials] == [
        (key, "finished") for key in given[:-1]
    ]
    command = text.partition("retrain it in full:\n")[2].strip().splitlines()[0].strip()
    assert ("tune.winner" in command) == (folds is not None)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    for one in command.replace("norface crossval", "python -m norface crossval").split(" && "):
        done = subprocess.run(
            [sys.executable, *one.split()[1:]],
            cwd=place, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    runs = sorted((place / "runs" / f"{name}-best").glob("norface/seed0/*/run.json"))
    assert len(runs) == 3 and {read_facts(run.parent)["status"] for run in runs} == {"finished"}


def test_whom_a_fold_tests_is_refused_though_the_sweep_trains_another_fold(place, monkeypatch):
    monkeypatch.chdir(place)
    index = ShardIndex.open(place / "shards/folds")
    keys = [index.key_of(row) for row in range(0, len(index), 8)]
    words = words_for(place, keys, target_shards="shards/folds")
    with pytest.raises(ConfigError, match=r"all 6 candidates are refused, .* test subject of") as e:
        Sweep(load_sweep("sweep.yaml", [*words, "folds=[test=part1]"]))
    assert "name candidates whom no fold tests, from another corpus" in str(e.value)


def test_a_target_with_an_active_unit_is_refused_by_its_label_or_by_the_reader(place, tmp_path):
    index = ShardIndex.open(place / "shards/others")
    strength, keys = strengths(index), index.table["key"].to_numpy(str)
    resting, active = list(keys[strength == 0]), list(keys[strength >= 2])
    assert len(resting) >= 4 and active
    choice = NormalizeChoice(generator="unused", shards=place / "shards/others")
    refused = refuse_active(choice, [*resting, *active])
    assert set(refused) == set(active)
    assert all("it is labelled" in why for why in refused.values())
    relabel(place / "shards/others", tmp_path / "s", "synthetic")
    choice = NormalizeChoice(generator="unused", shards=tmp_path / "s", reader="packaged")
    refused = refuse_active(choice, [*resting, *active])
    strongest = keys[strength.argmax()]
    assert "packaged reader of synthetic faces sees AU" in refused[strongest]
    assert not set(refused) & set(resting)
    # Labels of synthetic faces are exact, unless somebody is asked to look.
    for reader in ("auto", None):
        by_label = choice.model_copy(update={"reader": reader})
        assert refuse_active(by_label, [*resting, *active]) == {}


def test_photographs_are_looked_at_or_the_sweep_says_that_nobody_can(place, tmp_path, monkeypatch):
    index = relabel(place / "shards/others", tmp_path / "s", "bp4d")
    keys = list(index.table["key"].to_numpy(str))
    choice = NormalizeChoice(generator="unused", shards=tmp_path / "s")
    if find_task_file() is not None:
        found = refuse_active(choice, keys)
        assert found and all("MediaPipe blendshapes sees AU" in why for why in found.values())
    monkeypatch.setattr("norface.evaluation.unit_readers.find_task_file", lambda: None)
    with pytest.raises(WeightsError, match="normalize.reader: no reader of photographs: .*; null"):
        refuse_active(choice, keys)
    assert refuse_active(choice.model_copy(update={"reader": None}), keys) == {}
