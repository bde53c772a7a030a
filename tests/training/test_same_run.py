"""Two ranks of half the batch train what one rank trains: gradients, losses, after resumes too."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from ranks import finish, said, start_ranks, wait_for
from tiny_stages import load_tiny, write_material

from norface.tracking import read_metrics
from norface.training.stages.cla import ClaStage
from norface.training.stages.mae import MaeStage
from norface.training.stages.nor import NorStage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return write_material(tmp_path_factory.mktemp("material"))


def watched(stage):
    """A stage that notes the gradients of its first step and the keys of every batch."""

    class Watched(stage):
        def train_batch(self, batch, step):
            name = f"keys-{step}-{self.backend.rank}.txt"
            Path(self.config.root / name).write_text("\n".join(batch["key"]))
            metrics = super().train_batch(batch, step)
            if step == 0 and self.backend.is_main:
                torch.save(
                    {n: p.grad.clone() for n, p in self.network().named_parameters()
                     if p.grad is not None},
                    self.config.root / "gradients.pt",
                )  # fmt: skip
            return metrics

        def network(self):
            if isinstance(self, NorStage):
                return self.backend.unwrap(self.generator)
            return self.bare

    return Watched


STAGES = {"nor": watched(NorStage), "cla": watched(ClaStage), "mae": watched(MaeStage)}


def keys(root: Path, step: int, ranks: int) -> list[str]:
    """Keys of a global batch in its order."""
    files = [root / f"keys-{step}-{rank}.txt" for rank in range(ranks)]
    return [key for file in files for key in file.read_text().splitlines()]


def losses(config) -> list[float]:
    return [line["loss"] for line in read_metrics(config.root / config.name) if "loss" in line]


@pytest.mark.parametrize(
    "kind, more",
    [
        ("nor", ()),
        # A single target is encoded once a batch, by each rank.
        ("nor", ("target_pool.keys=[synthetic_S0_c_0]", "target_pool.check_target=false")),
        ("cla", ()),
        ("mae", ()),
    ],
    ids=["nor", "one target", "cla", "mae"],
)
def test_first_gradients_agree_to_1e_5_and_twenty_losses_to_1e_3(material, tmp_path, kind, more):
    changes = ["trainer.log_every_steps=1", *more]
    # Gradients of the judged picture pass through E_s, EMM and D_f; self pairs fall unevenly.
    _, one = load_tiny(kind, material, tmp_path / "one", *changes)
    _, two = load_tiny(kind, material, tmp_path / "two", *changes, "trainer.batch_per_rank=4")
    finish(one, 1, stage=STAGES[kind])
    finish(two, 2, stage=STAGES[kind])
    first, second = (torch.load(c.root / "gradients.pt") for c in (one, two))
    difference = sum(float((first[n] - second[n]).square().sum()) for n in first) ** 0.5
    size = sum(float(tensor.square().sum()) for tensor in first.values()) ** 0.5
    assert size > 0 and difference <= 1e-5 * size
    assert len(losses(one)) >= 20
    assert losses(one)[:20] == pytest.approx(losses(two)[:20], rel=1e-3)
    for step in range(len(losses(one))):
        assert keys(one.root, step, 1) == keys(two.root, step, 2)


def stopping(stage, until: int):
    """A stage that asks to be stopped after so many steps."""

    class Stopping(stage):
        def train_batch(self, batch, step):
            if step == until - 1:
                os.kill(os.getpid(), signal.SIGUSR1)
            return super().train_batch(batch, step)

    return Stopping


@pytest.mark.parametrize("kind", ["nor", "cla"])
def test_two_ranks_then_one_then_two_see_the_same_pictures_and_losses(material, tmp_path, kind):
    changes = ["trainer.log_every_steps=1"]
    half = "trainer.batch_per_rank=4"
    _, whole = load_tiny(kind, material, tmp_path / "whole", *changes, half)
    finish(whole, 2, stage=STAGES[kind])
    root = tmp_path / "parts"
    for ranks, until in ((2, 7), (1, 13), (2, None)):
        _, part = load_tiny(kind, material, root, *changes, f"trainer.batch_per_rank={8 // ranks}")
        if until is None:
            finish(part, ranks, stage=STAGES[kind])
        else:
            processes = start_ranks(part, ranks, stage=stopping(STAGES[kind], until))
            assert wait_for(processes, 600) == [75] * ranks, said(part)
        first, last = {7: (0, 7), 13: (7, 13), None: (13, 20)}[until]
        for step in range(first, last):
            assert keys(root, step, ranks) == keys(whole.root, step, 2)
    assert "(2 ranks before, 1 now)" in said(part) and "(1 ranks before, 2 now)" in said(part)
    assert len(losses(part)) == len(losses(whole)) >= 20
    assert losses(part) == pytest.approx(losses(whole), rel=1e-3)
