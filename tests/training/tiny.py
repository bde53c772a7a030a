"""A stage of a few numbers: a two-layer regression on data keyed by sample. Runs as a script too:

python tests/training/tiny.py key=value ...
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file

from norface.training.backends.base import Backend
from norface.training.seeding import sample_rng
from norface.training.stage import Stage, StageConfig


class TinyConfig(StageConfig):
    """Settings of the tiny stage."""

    width: int = 16
    slow_s: float = Field(0.0, ge=0)
    "Seconds that a step takes more."
    poisoned_step: int = -1
    "Step whose loss is not finite, on the last rank only; -1 = none."


class TinyStage(Stage):
    """y = |x|^2 in R^8, learned with dropout (global generator), Adam and an average."""

    name = "tiny"
    steps_per_epoch = 10

    def __init__(self, config: TinyConfig, backend: Backend):
        self.config, self.backend = config, backend
        network = torch.nn.Sequential(
            torch.nn.Linear(8, config.width),
            torch.nn.Tanh(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(config.width, 1),
        )
        self.average = copy.deepcopy(network)
        self.network = backend.prepare(network)
        self.optimizer = backend.prepare_optimizer(
            torch.optim.Adam(self.network.parameters(), lr=0.01), self.network
        )

    def batches(self, start_step: int) -> Iterator[dict[str, Any]]:
        batch = self.config.trainer.batch_per_rank
        step = start_step
        while True:
            epoch, within = divmod(step, self.steps_per_epoch)
            first = (within * self.backend.world_size + self.backend.rank) * batch
            positions = range(first, first + batch)
            rows = [sample_rng(self.config.seed, epoch, p, "x").normal(size=8) for p in positions]
            x = torch.tensor(np.stack(rows), dtype=torch.float32)
            yield {"x": x, "key": [f"e{epoch}p{p}" for p in positions]}
            step += 1

    def train_batch(self, batch: dict[str, Any], step: int) -> dict[str, torch.Tensor]:
        if self.config.slow_s:
            time.sleep(self.config.slow_s)
        with self.backend.autocast():
            found = self.network(batch["x"]).squeeze(1).float()
        loss = (found - batch["x"].square().sum(1)).square().mean()
        if step == self.config.poisoned_step and self.backend.rank == self.backend.world_size - 1:
            loss = loss * float("nan")
        self.optimizer.descend(loss)
        with torch.no_grad():
            network = self.backend.whole(self.network)
            pairs = zip(self.average.parameters(), network.parameters(), strict=True)
            for average, value in pairs:
                average.lerp_(value, 0.1)
        return {"loss": loss.detach(), "rec": loss.detach() / 2}

    def state_dict(self) -> dict[str, Any]:
        network = self.backend.whole(self.network)
        return {
            "models": {"network": network.state_dict(), "average": self.average.state_dict()},
            "optimizers": {"network": self.optimizer.state_dict()},
            "extra": {"note": "plain"},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.backend.load_weights(self.network, state["models"]["network"])
        self.average.load_state_dict(state["models"]["average"])
        self.optimizer.load_state_dict(state["optimizers"]["network"])

    def evaluate(self, step: int) -> dict[str, float]:
        x = torch.linspace(-1, 1, 80).reshape(10, 8)
        with torch.no_grad():
            return {"error": float((self.average(x).squeeze(1) - x.square().sum(1)).abs().mean())}

    def sample_grid(self) -> np.ndarray:
        return np.full((8, 8, 3), 128, np.uint8)

    def export(self, folder: Path) -> None:
        save_file(self.average.state_dict(), folder / "tiny.safetensors")


if __name__ == "__main__":
    from norface.config import load_config
    from norface.errors import NorfaceError
    from norface.training.run import run_stage

    try:
        run_stage(TinyStage, load_config(TinyConfig, None, sys.argv[1:]))
    except NorfaceError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
