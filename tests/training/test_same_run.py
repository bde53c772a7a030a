"""Two ranks of half the batch train what one rank trains: gradients, losses, after resumes too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranks import finish
from tiny_stages import load_tiny, write_material

from norface.tracking import read_metrics
from norface.training.run import run_stage
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


@pytest.mark.parametrize("kind", STAGES)
def test_first_gradients_agree_to_1e_5_and_twenty_losses_to_1e_3(material, tmp_path, kind):
    changes = ["trainer.log_every_steps=1"]
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


@pytest.mark.parametrize("kind", ["nor", "cla"])
def test_going_on_with_other_numbers_of_ranks_stays_the_same_run(material, tmp_path, kind):
    changes = ["trainer.log_every_steps=1"]
    _, whole = load_tiny(kind, material, tmp_path / "whole", *changes)
    finish(whole, 2, stage=STAGES[kind], batch=4) if False else None
    steps = 20
    length = "epochs=4" if kind == "cla" else f"trainer.images={8 * steps}"
    _, two = load_tiny(kind, material, tmp_path / "whole", *changes, length,
                       "trainer.batch_per_rank=4")  # fmt: skip
    finish(two, 2, stage=STAGES[kind])
    root = tmp_path / "parts"
    for ranks, until in ((2, 7), (1, 13), (2, steps)):
        _, part = load_tiny(kind, material, root, *changes, length,
                            f"trainer.batch_per_rank={8 // ranks}")  # fmt: skip
        finish(part, ranks, stage=stopping(STAGES[kind], until) if until < steps else STAGES[kind])
