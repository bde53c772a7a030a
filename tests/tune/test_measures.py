"""What a normalization is worth."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sweeps import NETWORKS

from norface.config import load_config
from norface.critics.base import CriticChoice, CriticsConfig
from norface.data.shards import ShardIndex
from norface.errors import ConfigError
from norface.losses.weighted import LossWeights
from norface.synthetic.corpus import write_corpus
from norface.tracking import read_metrics
from norface.training.run import run_stage
from norface.training.stages.nor import NorStage
from norface.training.stages.nor_config import NorConfig
from tune.candidates import normalize_with, set_path
from tune.channel import Reporter
from tune.config import MeasureConfig, NormalizeChoice
from tune.measure import Measure, compare
from tune.trial import make_reporting

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """Four people in clips of three frames; each clip begins with the face at rest."""
    folder = tmp_path_factory.mktemp("faces") / "shards"
    write_corpus(
        folder, pool="normalizer", subjects=4, frames=3, clip_frames=3, side=64, seed=0, workers=1
    )
    return folder


def test_neither_the_bare_target_nor_the_bare_original_is_worth_anything():
    rng = np.random.default_rng(0)
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    person = np.repeat(["a", "b", "c", "d"], 8)
    own = unit(np.repeat(rng.normal(size=(4, 16)), 8, axis=0))
    target = unit(rng.normal(size=(1, 16)))
    expression = rng.normal(size=(32, 5))
    before = {"identity": own, "expression": expression}
    aim = {"identity": target, "expression": expression[:1]}
    as_target = np.repeat(target, 32, axis=0)
    ideal = {"identity": as_target, "expression": expression}
    assert compare(before, ideal, aim, person) == pytest.approx(
        {"score": 1, "nearer_to_target": 1, "expression_kept": 1}
    )
    bare_target = {"identity": as_target, "expression": np.repeat(expression[:1], 32, axis=0)}
    assert compare(before, bare_target, aim, person)["score"] == 0
    assert compare(before, before, aim, person)["score"] == 0
    noisy = {"identity": as_target, "expression": expression + 2 * rng.normal(size=(32, 5))}
    assert 0.2 < compare(before, noisy, aim, person)["score"] < 0.9


def test_f_nor_is_measured_on_subjects_that_it_never_saw_by_other_networks(faces, tmp_path):
    persons = ["/".join(person) for person in ShardIndex.open(faces).persons]
    words = [
        f"data.shards=[{faces}]", f"data.subjects={json.dumps(persons[:3])}", f"root={tmp_path}",
        "trainer={images: 16, batch_per_rank: 4, evaluate_every_steps: 2}", *NETWORKS,
        "tracking.mlflow=false", "backend.device=cpu",
    ]  # fmt: skip
    config = load_config(NorConfig, None, words)
    heard: list[dict] = []
    reporter = Reporter(lambda message: bool(heard.append(message)))
    held_out = MeasureConfig(shards=faces, subjects=persons[3:])
    about = {
        "first": 0, "fold": 0, "metric": "score", "save": False, "before": [],
        "measure": lambda stage: Measure(held_out, stage),
    }  # fmt: skip
    folder = run_stage(make_reporting(NorStage, reporter, about), config)
    reporter.flush()
    assert [one["report"] for one in heard] == [1, 2]
    found = heard[-1]["metrics"]
    assert set(found) == {"score", "nearer_to_target", "expression_kept", "au_r"}
    assert all(-1 <= value <= 1 for value in found.values())
    last = read_metrics(folder)[-1]
    assert last["validation/score"] == pytest.approx(found["score"])
    # Its set is found again under the same name.
    choice = NormalizeChoice(
        generator=folder / "generator.safetensors", shards=faces, out=tmp_path / "sets"
    )
    key = ShardIndex.open(faces).key_of(0)
    assert normalize_with(choice, key, "test=part1") == set_path(choice, key)
    # A subject that is trained on is no validation subject.
    about["measure"] = lambda stage: Measure(
        MeasureConfig(shards=faces, subjects=persons[2:]), stage
    )
    other = config.model_copy(update={"name": "leak"})
    with pytest.raises(ConfigError, match="1 of 2 validation subjects are trained on, first"):
        run_stage(make_reporting(NorStage, reporter, about), other)


def test_a_judge_that_a_loss_asks_is_named(caplog):
    packaged = dict.fromkeys(("identity", "expression"), {"source": "synthetic"})
    asked = CriticsConfig.model_validate(packaged)
    other = CriticChoice(source="synthetic", weights=Path("other.safetensors"))
    stage_config = SimpleNamespace(critics=asked, losses=LossWeights(eye=None, lm=None, perc=None))
    measure = object.__new__(Measure)
    measure.stage = SimpleNamespace(config=stage_config)
    measure.config = MeasureConfig(critics=asked.model_copy(update={"identity": other}))
    measure.warn_of_partial_judges()
    assert [record.getMessage() for record in caplog.records] == [
        "measure.critics.expression is the network that L_exp asks: it favours a larger losses.exp;"
        " choose another"
    ]
