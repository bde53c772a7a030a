"""`norface bench scaling`: two ranks that train together against two trainings on their own.

One thread a process in both, the same pictures a process, in turns. The two on their own run at
the same time, so that both pairs share the machine's memory and caches alike; what is left between
them is what working together costs: averaging gradients, and waiting for the slower rank. Gloo
sends gradients with the cores that compute, so what counts is how long a step computes for each
byte: two networks are measured, quickstart's, which has many weights and computes little with each,
and the paper's in small.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from norface.bench.training import (
    SIDE,
    free_port,
    read_lines,
    start_training,
    wait_for,
    write_small_nor,
)
from norface.config import Config

GOAL = 0.9
"Pictures a second of two ranks over those of two independent trainings."
WINDOWS = 6
NETWORKS: dict[str, dict[str, Any]] = {
    "quickstart": {},
    "paper": {
        "clip_pair": 0.0,
        "intensity_noise": 0.0,
        "encoder_weights": None,
        "normalizer": {
            "encoder": dict(side=SIDE, patch=8, width=128, depth=4, heads=4, mlp_ratio=2),
            "merging": {"heads": 4, "mlp_ratio": 2, "blocks": 2},
            "decoder": {"channels": [128, 64, 32, 16]},
        },
    },
}
"""Networks of F_nor => their settings beside quickstart's. paper = those of configs/nor/
synthetic-64-paper.yaml: one transformer, EMM, a convolutional decoder."""


class WeakScaling(Config):
    """Pictures a second: medians over the rounds, ratio round by round."""

    network: str
    "quickstart or paper."
    gradients_mb: float
    "10^6 bytes of gradients, both networks': what a step averages over the ranks."
    rounds: int
    together: float
    "Two ranks of one training."
    apart: float
    "Two trainings of one rank, added."
    ratio: float
    "Median of together / apart of each round."

    def describe(self) -> str:
        """Lines for a person."""
        return "\n".join(
            [
                f"a small F_nor, the network of {self.network}, {self.gradients_mb:.1f} MB of"
                f" gradients a step, one thread a process, {self.rounds} rounds",
                f"  two ranks together            {self.together:>8.1f} pictures/s",
                f"  two trainings at once, apart  {self.apart:>8.1f} pictures/s",
                f"  ratio {self.ratio:.3f} (goal {GOAL:.1f})",
            ]
        )


def bench_scaling(place: Path, *, network: str, rounds: int, steps: int) -> WeakScaling:
    """Measure with `steps` steps a window. Raises TrainingError where a training fails."""
    config = write_small_nor(
        place, steps=steps * (WINDOWS + 1), network=NETWORKS[network], log_every_steps=steps
    )
    together, apart = [], []
    for number in range(rounds):
        together.append(run_together(config, f"together-{number}"))
        apart.append(run_apart(config, [f"apart-{number}-{one}" for one in "ab"]))
    return WeakScaling(
        network=network,
        gradients_mb=round(count_trained_bytes(config) / 1e6, 1),
        rounds=rounds,
        together=round(float(np.median(together)), 2),
        apart=round(float(np.median(apart)), 2),
        ratio=round(float(np.median(np.array(together) / apart)), 4),
    )


def run_together(config: Path, name: str) -> float:
    """Pictures a second of a training of two ranks, as many steps as one rank has."""
    port, images = free_port(), 2 * images_of(config)
    ranks = [
        start_training(config, name, f"trainer.images={images}", rank=rank, ranks=2, port=port)
        for rank in range(2)
    ]
    wait_for(ranks, config, name)
    return rate_of(read_lines(config, name))


def run_apart(config: Path, names: Sequence[str]) -> float:
    """Pictures a second of trainings of one rank at the same time, added."""
    processes = [start_training(config, name) for name in names]
    for process, name in zip(processes, names, strict=True):
        wait_for([process], config, name)
    return sum(rate_of(read_lines(config, name)) for name in names)


def count_trained_bytes(config: Path) -> int:
    """Bytes of the weights that are trained, in fp32."""
    from norface.config import load_config
    from norface.training.stages.nor_config import NorConfig
    from norface.training.stages.nor_networks import build_networks

    networks = build_networks(load_config(NorConfig, config))[:2]
    return 4 * sum(p.numel() for net in networks for p in net.parameters() if p.requires_grad)


def images_of(config: Path) -> int:
    """`trainer.images` of a config's file."""
    from norface.config import read_yaml

    return int(read_yaml(config)["trainer"]["images"])


def rate_of(lines: Sequence[dict[str, Any]]) -> float:
    """Median of pictures a second over the windows but the first, which is unlike the others."""
    return float(np.median([line["images_per_second"] for line in lines[1:]]))
