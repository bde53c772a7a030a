"""Out of memory: which setting to change."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from norface.config import flatten
from norface.errors import TrainingError
from norface.training.stage import StageConfig

SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
"What torch, CUDA and the C++ library say, in small letters."


@contextlib.contextmanager
def explaining_memory(config: StageConfig, rank: int) -> Iterator[None]:
    """Turns running out of memory into a TrainingError that names the settings to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if not isinstance(error, MemoryError) and not any(sign in text.lower() for sign in SIGNS):
            raise
        sentences = re.split(r"(?<=\.) |\n", text)
        said = next((s for s in sentences if any(sign in s.lower() for sign in SIGNS)), "")
        said = (said or type(error).__name__).rstrip(".")[:160]
        raise TrainingError(
            f"rank {rank} is out of memory ({said}); {suggest(config)}, then start the same command"
            " again"
        ) from error


def suggest(config: StageConfig) -> str:
    """`set gradient_checkpointing=true, or ...`: what this config has and does not use yet."""
    values = flatten(config.model_dump(mode="json"))
    keys = [key for key in values if key.endswith("gradient_checkpointing")]
    # The stage's own switch sets those of its networks.
    depth = min((key.count(".") for key in keys), default=0)
    ways = [f"{key}=true" for key in keys if key.count(".") == depth and not values[key]]
    if values["backend.precision"] == "fp32":
        ways.append("backend.precision=bf16")
    batch = config.trainer.batch_per_rank
    if batch > 1:
        ways.append(
            f"trainer.batch_per_rank={batch // 2} on twice the ranks (a begun run keeps its global"
            " batch)"
        )
    return "set " + ", or ".join(ways) if ways else "take a smaller network or a larger machine"
