"""The dry run before a run: it leaves no trace, and tells before anything is written."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import finish, said, start_ranks, tiny_config, wait_for
from runs import assert_same_run
from tiny import TinyStage
from tiny_stages import load_tiny, write_material

from norface.config import load_config
from norface.errors import TrainingError
from norface.training.backends.base import build_backend
from norface.training.dry_run import dry_run
from norface.training.run import run_stage
from norface.training.saving import copy_to_host
from norface.training.seeding import seed_everything

os.environ.setdefault("DS_ACCELERATOR", "cpu")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return write_material(tmp_path_factory.mktemp("material"))


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dicts and lists => their leaves by path."""
    if isinstance(value, (dict, list, tuple)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, part in pairs for k, v in flatten(part, f"{name}/{key}").items()}
    return {name: value}


def same(one: Any, other: Any) -> bool:
    """Bit for bit."""
    one, other = flatten(one), flatten(other)
    return one.keys() == other.keys() and all(
        torch.equal(a, other[name]) if isinstance(a, torch.Tensor) else a == other[name]
        for name, a in one.items()
    )


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("kind", ["mae", "nor", "cla"])
def test_weights_optimizers_averages_and_generators_are_what_they_were(
    material, tmp_path, kind, steps
):
    more = {
        # A spectral norm's vectors and balanced weights move in a forward pass alone, and the
        # discriminator comes in only later than the first step.
        "nor": ["losses.balance.shares={rec: 1, id: 1}", "adversarial_start_step=5",
                "discriminator.spectral_norm=true", "optimizer.clip_norm=1"],
    }  # fmt: skip
    stage_class, config = load_tiny(kind, material, tmp_path, *more.get(kind, []))
    trained: list[set[str]] = []

    class Watched(stage_class):
        def train_batch(self, batch, step):
            trained.append(set(super().train_batch(batch, step)))
            moved.append(not same(before, self.state_dict()))
            return {}

    moved: list[bool] = []
    backend = build_backend(config.backend)
    try:
        seed_everything(config.seed)
        stage = Watched(config, backend)
        before = copy_to_host(stage.state_dict())
        generators = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()]
        dry_run(stage, config, backend, steps)
        assert moved == [True] * steps
        after = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()]
        assert same(before, stage.state_dict()) and same(generators, after)
    finally:
        backend.close()
    if kind == "nor":
        assert {"discriminator", "grad_share/adv", "weight/id"} <= trained[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mae", "nor", "cla"])
def test_a_run_of_two_ranks_ends_in_the_bits_of_one_without_it(material, tmp_path, kind):
    compare(kind, material, tmp_path, "trainer.batch_per_rank=4")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "zero_stage"), [*(("nor", stage) for stage in range(4)), ("cla", 1), ("cla", 3)]
)
def test_under_zero_too(material, tmp_path, kind, zero_stage):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install deepspeed")
    (tmp_path / "zero.json").write_text(
        '{"zero_optimization": {"stage3_param_persistence_threshold": 0}}'
    )
    zero = [f"backend.zero_stage={zero_stage}", f"backend.deepspeed={tmp_path / 'zero.json'}"]
    compare(kind, material, tmp_path, "trainer.batch_per_rank=4", "backend.kind=deepspeed", *zero)


@pytest.mark.slow
def test_under_zero_with_weights_in_bf16_too(tmp_path):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install deepspeed")
    words = ["trainer.images=160", "trainer.batch_per_rank=4", "backend.kind=deepspeed"]
    words += ["backend.zero_stage=2", "backend.precision=bf16", "backend.weights=bf16"]
    plain = tiny_config(tmp_path / "plain", *words, "trainer.dry_run=false")
    tried = tiny_config(tmp_path / "tried", *words)
    finish(plain, 2)
    finish(tried, 2)
    assert said(tried).count("dry run: 1 step(s)") == 1
    assert_same_run(tried, plain)


def compare(kind: str, material: Path, folder: Path, *words: str) -> None:
    """Two ranks, with and without a dry run; what it left would show from the first step on."""
    words += ("epochs=1",) if kind == "cla" else ("trainer.images=48",)
    stage, plain = load_tiny(kind, material, folder / "plain", *words, "trainer.dry_run=false")
    _, tried = load_tiny(kind, material, folder / "tried", *words)
    finish(plain, 2, stage=stage)
    finish(tried, 2, stage=stage)
    assert "dry run" not in said(plain)
    assert said(tried).count("dry run: 1 step(s) of 4 pictures a rank") == 1
    assert_same_run(tried, plain)


class NeedsTooMuch(TinyStage):
    """Asks for more memory than any machine has, at log steps and on the last rank only."""

    def train_batch(self, batch, step):
        every = self.config.trainer.log_every_steps
        if (step + 1) % every == 0 and self.backend.rank == self.backend.world_size - 1:
            torch.empty(2**60)
        return super().train_batch(batch, step)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_step_that_does_not_fit_is_told_before_anything_is_written(tmp_path, ranks):
    config = tiny_config(tmp_path, "tracking.mlflow=true")
    codes = wait_for(start_ranks(config, ranks, stage=NeedsTooMuch))
    assert codes == [1, 2][-ranks:]
    assert f"rank {ranks - 1} is out of memory" in said(config)
    assert not [path for path in tmp_path.rglob("*") if path.suffix != ".txt" and path.is_file()]
    # The name is free for another config.
    finish(tiny_config(tmp_path, "width=8", "tracking.mlflow=false"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_loss_that_is_not_finite_is_told_as_in_the_loop_before_a_run_is_opened(tmp_path, ranks):
    # The last of the run's sixty steps is a log step, and so what the dry run trains.
    words = ["poisoned_step=59", f"trainer.batch_per_rank={8 // ranks}"]
    config = tiny_config(tmp_path, *words)
    assert wait_for(start_ranks(config, ranks)) == [2] * ranks, said(config)
    first = 8 - 8 // ranks
    keys = ", ".join(f"e0p{position}" for position in range(first, first + 4))
    line = f"dry run: rec not finite on rank {ranks - 1}, batch {keys}"
    assert [one for one in said(config).splitlines() if one.startswith(line)]
    assert said(config).count("not finite") == 1 and "Traceback" not in said(config)
    assert not (tmp_path / "run").exists()


class FailsLater(TinyStage):
    """Ends on the last rank, once the watchdogs of all ranks have written where they are."""

    def train_batch(self, batch, step):
        if self.backend.rank == self.backend.world_size - 1:
            ranks = self.config.root / self.config.name / "ranks"
            while len(list(ranks.glob("[!.]*.json"))) < self.backend.world_size:
                time.sleep(0.05)
            raise RuntimeError("shapes differ")
        return super().train_batch(batch, step)


def test_a_failed_dry_run_leaves_no_run_folder(tmp_path):
    # They look every two seconds, and one that waits in vain is killed, as by a launcher.
    config = tiny_config(tmp_path, "trainer.batch_per_rank=4", "trainer.hang_seconds=40")
    processes = start_ranks(config, 2, stage=FailsLater)
    assert wait_for(processes[1:]) == [1]
    processes[0].kill()
    processes[0].join()
    assert "shapes differ" in said(config)
    assert not (tmp_path / "run").exists()


def test_without_it_the_same_step_fails_in_a_run_that_is_open(tmp_path):
    with pytest.raises(TrainingError, match="out of memory"):
        run_stage(NeedsTooMuch, tiny_config(tmp_path, "trainer.dry_run=false"))
    assert (tmp_path / "run" / "run.json").exists()


def test_a_begun_run_makes_none_and_may_switch_it(tmp_path, capfd):
    run_stage(TinyStage, tiny_config(tmp_path, "trainer.images=240"))
    assert capfd.readouterr().out.count("dry run: 1 step(s) of 8 pictures") == 1
    run_stage(TinyStage, tiny_config(tmp_path))
    assert "dry run" not in capfd.readouterr().out
    again = load_config(type(tiny_config(tmp_path)), tmp_path / "run" / "config.yaml",
                        ["trainer.dry_run=false", "trainer.images=560"])  # fmt: skip
    run_stage(TinyStage, again)
