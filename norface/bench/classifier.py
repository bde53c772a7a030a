"""`norface bench classifier`: a training step of F_cla against the matmul rate of this machine."""

from __future__ import annotations

import torch

from norface.bench.rates import PRODUCT, time_in_turns
from norface.config import Config
from norface.losses.classification import detection_loss, router_losses
from norface.models.classifier import Classifier, ClassifierConfig
from norface.training.stages.cla_cost import count_operations

GOAL = 0.75
UNITS = 12
"Outputs, as many as BP4D has units."


class ClassifierRate(Config):
    """A step: both passes, the losses (11)-(13) and AdamW, in fp32, pictures already read."""

    batch: int
    side: int
    streams: int
    gflop: float
    "Useful operations of a step, 10^9; of experts the chosen ones."
    seconds: float
    "Median of a step."
    matmul_gflops: float
    "10^9 operations a second of large matrix products, median."
    share: float
    "Useful operations a second over that, median over the rounds."

    def describe(self) -> str:
        """Lines for a person."""
        return (
            f"F_cla, batch {self.batch}, {self.streams} streams of {self.side}x{self.side}:"
            f" {self.seconds:.2f} s a training step of {self.gflop:.0f} GFLOP\n"
            f"  useful FLOPs: {self.share:.2f} of the matmul rate (goal {GOAL}), which is"
            f" {self.matmul_gflops:.0f} GFLOP/s"
        )


def bench_classifier(
    config: ClassifierConfig, *, batch: int, rounds: int, streams: int = 2
) -> ClassifierRate:
    """Measure steps on random pictures, in turns with matrix products."""
    torch.manual_seed(0)
    model = Classifier(config, outputs=UNITS, image_streams=streams).train()
    model = model.to(memory_format=torch.channels_last)
    images = [torch.rand(batch, 3, config.side, config.side) * 2 - 1 for _ in range(streams)]
    labels = torch.randint(0, 2, (batch, UNITS)).float()
    noise = torch.randn(batch, *model.router_shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    rows, width, hidden = PRODUCT
    first, second = torch.randn(rows, width), torch.randn(width, hidden)
    # As long as a tenth of a step or so: a single product would be over before a step's noise.
    repeats = max(1, round(count_operations(model) * batch / (10 * 2 * rows * width * hidden)))

    def step() -> None:
        logits, routers = model(images, None, noise)
        terms = router_losses(routers)
        balance = 1e-3 * (terms["imp"] + terms["global"] + terms["local"]) if routers else 0.0
        optimizer.zero_grad(set_to_none=True)
        (detection_loss(logits, labels, None) + balance).backward()
        optimizer.step()

    def multiply() -> None:
        for _ in range(repeats):
            first @ second

    found = time_in_turns({"matmul": multiply, "step": step, "again": multiply}, rounds)
    operations = count_operations(model) * batch
    around = [(a + b) / 2 for a, b in zip(found["matmul"], found["again"], strict=True)]
    rate = torch.tensor([repeats * 2 * rows * width * hidden / s for s in around])
    seconds = torch.tensor(found["step"])
    return ClassifierRate(
        batch=batch,
        side=config.side,
        streams=streams,
        gflop=operations / 1e9,
        seconds=float(seconds.median()),
        matmul_gflops=round(float(rate.median()) / 1e9, 1),
        share=round(float((operations / seconds / rate).median()), 3),
    )
