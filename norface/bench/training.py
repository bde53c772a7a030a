"""Small trainings of F_nor in processes of their own, as `norface train nor` starts them.

What `norface bench start | saving | scaling` have in common: the network of `norface quickstart`
on a few synthetic faces, with its discriminator from the first step on.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from norface.bench.loading import write_faces
from norface.config import save_config
from norface.errors import TrainingError
from norface.quickstart.settings import NORMALIZER
from norface.tracking import read_metrics
from norface.training.stages.nor_config import NorConfig

SIDE, PICTURES, BATCH = 64, 64, 8
PATIENCE_S = 1800


def write_small_nor(
    place: Path, *, steps: int, network: Mapping[str, Any] | None = None, **trainer: int
) -> Path:
    """Synthetic faces and a config (yaml) of so many steps of 8 pictures; returns the config.

    `network`: settings other than quickstart's, outside `trainer`.
    """
    if not (place / "faces").exists():
        write_faces(place / "faces", pictures=PICTURES, side=SIDE, rendered=2)
    often = {"log_every_steps": steps, "sample_every_steps": 0, "save_every_steps": 0}
    values: dict[str, Any] = {
        **NORMALIZER,
        **(network or {}),
        "root": place,
        "data": {"shards": [place / "faces"]},
        "adversarial_start_step": 0,
        "trainer": {**often, **trainer, "images": steps * BATCH, "batch_per_rank": BATCH},
        "backend": {"device": "cpu"},
        "tracking": {"mlflow": False},
    }
    path = place / "nor.yaml"
    save_config(NorConfig.model_validate(values), path)
    return path


def start_training(
    config: Path, name: str, *words: str, rank: int = 0, ranks: int = 1, port: int = 0
) -> subprocess.Popen[bytes]:
    """A rank of one thread that trains into the folder `name` beside `config`.

    `port`: where the ranks find each other, for more than one.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if ranks > 1:
        environment |= {"WORLD_SIZE": str(ranks), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "norface", "train", "nor", "-c", str(config), f"name={name}"]
    with open(config.parent / f"{name}-{rank}.txt", "w") as log:
        return subprocess.Popen([*command, *words], stdout=log, stderr=log, env=environment)


def wait_for(processes: list[subprocess.Popen[bytes]], config: Path, name: str) -> None:
    """Until all have ended. Raises TrainingError, with the last line said, where one failed."""
    deadline = time.monotonic() + PATIENCE_S
    try:
        for process in processes:
            process.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        raise TrainingError(f"{name}: not done after {PATIENCE_S} s") from None
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if any(process.returncode for process in processes):
        said = [path.read_text().strip() for path in sorted(config.parent.glob(f"{name}-*.txt"))]
        last = [text.splitlines()[-1] for text in said if text]
        raise TrainingError(f"{name}: the training failed: {' | '.join(last)}")


def read_lines(config: Path, name: str) -> list[dict[str, Any]]:
    """metrics.jsonl of a training beside `config`."""
    return read_metrics(config.parent / name)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
