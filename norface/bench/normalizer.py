"""`norface bench normalizer`: a training step of F_nor against the matmul rate of this machine.

The step of stage `nor` itself, with the sizes and losses of configs/nor/pretrain.yaml: generator,
discriminator, average, both optimizers, and critics of full size with random weights. A
process of its own for each precision, so that each has its own highest memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from norface.bench.critics import draw_critics
from norface.bench.loading import write_faces
from norface.bench.memory import measure_alone, peak_mb
from norface.bench.rates import PRODUCT, median_ratio, time_in_turns
from norface.config import Config, build_config
from norface.losses.weighted import weighted_sum
from norface.training.run import running_backend
from norface.training.stages.nor import NorStage
from norface.training.stages.nor_config import NorConfig

Precision = Literal["fp32", "bf16"]
GOALS: dict[Precision, float] = {"fp32": 0.75, "bf16": 0.65}
GOAL_CRITICS, GOAL_GIB = 0.35, 20
NEVER = 10**9
"Steps until something that is no part of a plain step."


class NormalizerRate(Config):
    """A step in one precision: F_nor, D_res, the losses (4)-(10), pictures already read."""

    precision: Precision
    batch: int
    side: int
    trained_gflop: float
    "Useful operations of F_nor and D_res in a step, 10^9."
    critics_gflop: float
    "Of the critics: forward on truth and on what is judged, backward into the picture."
    seconds: float
    "Median of a step."
    matmul_gflops: float
    "10^9 operations a second of large matrix products in this precision, median."
    share: float
    "Useful operations a second over that, median over the rounds."
    critics_share: float
    "Time of the critics, both passes, over that of the step, median over the rounds."
    peak_gib: float
    "Highest memory of the process."

    def describe(self) -> str:
        """Lines for a person."""
        return (
            f"F_nor, {self.precision}, batch {self.batch}, {self.side}x{self.side}:"
            f" {self.seconds:.1f} s a training step of"
            f" {self.trained_gflop + self.critics_gflop:.0f} GFLOP, the critics'"
            f" {self.critics_gflop:.0f}\n"
            f"  useful FLOPs: {self.share:.2f} of the matmul rate (goal {GOALS[self.precision]}),"
            f" which is {self.matmul_gflops:.0f} GFLOP/s\n"
            f"  critics: {self.critics_share:.0%} of the step (goal {GOAL_CRITICS:.0%} at most)\n"
            f"  memory: {self.peak_gib:.1f} GiB at most (goal {GOAL_GIB})"
        )


def bench_normalizer(
    place: Path, *, precision: Precision, batch: int, side: int, rounds: int
) -> NormalizerRate:
    """Measure steps, critics and matrix products in turns, in a new process."""
    return measure_alone(measure_steps, place, precision, batch, side, rounds).result


def measure_steps(
    place: Path, precision: Precision, batch: int, side: int, rounds: int
) -> NormalizerRate:
    """As `bench_normalizer`, in this process."""
    config = write_config(place, precision=precision, batch=batch, side=side)
    with running_backend(config.backend) as backend:
        return time_steps(Steps(NorStage(config, backend, draw_critics())), rounds)


def time_steps(steps: Steps, rounds: int) -> NormalizerRate:
    """Steps, critics and matrix products in turns."""
    config, product = steps.config, steps.product_operations
    operations, judging = steps.count_operations(), steps.count_critics()
    repeats = max(1, round((operations + judging) / (10 * product)))
    found = time_in_turns(
        {
            "matmul": lambda: steps.multiply(repeats),
            "step": steps.train,
            "again": lambda: steps.multiply(repeats),
            "critics": steps.judge,
        },
        rounds,
    )
    around = [(a + b) / 2 for a, b in zip(found["matmul"], found["again"], strict=True)]
    rate = torch.tensor([repeats * product / seconds for seconds in around])
    seconds = torch.tensor(found["step"])
    return NormalizerRate(
        precision=config.backend.precision,
        batch=config.trainer.batch_per_rank,
        side=config.normalizer.side,
        trained_gflop=operations / 1e9,
        critics_gflop=judging / 1e9,
        seconds=float(seconds.median()),
        matmul_gflops=round(float(rate.median()) / 1e9, 1),
        share=round(float(((operations + judging) / seconds / rate).median()), 3),
        critics_share=round(median_ratio(found["critics"], found["step"]), 3),
        peak_gib=round(peak_mb() / 1024, 2),
    )


def write_config(
    place: Path, *, precision: Precision, batch: int, side: int, **changes: Any
) -> NorConfig:
    """Synthetic faces below `place`, and the config of a step with them: the paper's but `changes`.

    Its critics are given to the stage, so the config names none.
    """
    faces = place / f"faces-{side}"
    if not faces.exists():
        write_faces(faces, pictures=batch, side=side, rendered=2)
    values: dict[str, Any] = {
        "root": place,
        "data": {"shards": [faces]},
        "trainer": {"images": NEVER, "batch_per_rank": batch, "log_every_steps": NEVER},
        "backend": {"device": "cpu", "precision": precision},
        "normalizer": {"encoder": {"side": side}},
        **changes,
    }
    return build_config(NorConfig, values)


class Steps:
    """One batch that a stage trains on again and again, and what there is to measure of it."""

    def __init__(self, stage: NorStage):
        self.stage, self.config = stage, stage.config
        self.batch = next(stage.batches(0))
        self.number = 0
        half = self.config.backend.precision == "bf16"
        kind = torch.bfloat16 if half else torch.float32
        rows, width, hidden = PRODUCT
        self.first, self.second = (
            torch.randn(rows, width).to(kind),
            torch.randn(width, hidden).to(kind),
        )
        self.product_operations = 2 * rows * width * hidden

    def train(self) -> None:
        """A training step."""
        self.stage.train_batch(self.batch, self.number)
        self.number += 1

    def judge(self) -> None:
        """What critics and pixels have to do with a step: both passes, down to the picture."""
        stage = self.stage
        original, target = (stage.to_device(self.batch[name]) for name in ("original", "target"))
        picture = original.clone().requires_grad_()
        losses = stage.judge(
            original, target, picture, self.batch["is_self"], known=None, measure_all=False,
            pairs=self.batch["is_self"].sum().float(),
        )  # fmt: skip
        weighted_sum(losses, self.config.losses).backward()

    def multiply(self, repeats: int) -> None:
        """Matrix products of ViT-B's shape."""
        for _ in range(repeats):
            self.first @ self.second

    def count_operations(self) -> float:
        """Useful operations of a step of the trained networks, counted without computing any."""
        return self.stage.count_operations() * self.config.trainer.batch_per_rank

    def count_critics(self) -> float:
        """Operations of `judge`, counted while it runs: not all critics can be counted else."""
        with FlopCounterMode(display=False) as counter:
            self.judge()
        return float(counter.get_total_flops())
