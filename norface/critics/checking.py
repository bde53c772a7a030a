"""What a config's critics answer on faces: `norface critics check`.

Each critic is loaded alone, so that all that is wrong comes to light at once, and is asked about
two synthetic faces and, where the config names shards, some of their pictures.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ConfigDict
from torch import Tensor

from norface.config import Config
from norface.critics.base import (
    KINDS,
    Card,
    Critic,
    CriticsConfig,
    build_critics,
    check_features,
    list_sources,
)
from norface.data.shards import ShardIndex
from norface.devices import read_device
from norface.errors import ConfigError, NorfaceError
from norface.images import resize_pixels, to_image
from norface.losses.weighted import CRITIC_OF, LossWeights

FACES = 2
"Synthetic faces that are shown: two persons with different faces."
SMALLEST = 16
"Pixels to a side of the pictures that are shown."


class ShardsPart(Config):
    """`data` of a config, of which only the shards are looked at."""

    model_config = ConfigDict(extra="ignore")

    shards: list[Path] = []
    "Folders of shards, read as one."


class CheckConfig(Config):
    """What `norface critics check` reads of a config, one of `norface train nor` for example."""

    model_config = ConfigDict(extra="ignore")

    critics: CriticsConfig = CriticsConfig()
    "The critics to load."
    losses: LossWeights | None = None
    "Their weights; a term above 0 without its critic is a problem."
    data: ShardsPart = ShardsPart()
    "Pictures to show them, beside synthetic faces."


class Finding(Config):
    """What is found of one critic."""

    kind: str
    source: str
    card: Card | None = None
    parameters: int = 0
    "Numbers that its network holds, buffers included."
    shapes: list[list[int]] = []
    "Of its features for one picture."
    synthetic: tuple[float, float] | None = None
    "Lowest and highest feature on synthetic faces."
    shards: tuple[float, float] | None = None
    "Lowest and highest feature on pictures of the shards."
    milliseconds: float | None = None
    "A picture, there and back, on this device."
    gradient: float | None = None
    "Euclidean norm of the gradient, in the pictures, of a fixed mixture of the features."
    bf16: float | None = None
    "Relative difference of the features under bf16 autocast."
    problems: list[str] = []
    "What makes it unfit; empty = none."


def check_critics(
    config: CheckConfig, *, device: str = "cpu", side: int = 256, pictures: int = 16
) -> list[Finding]:
    """One finding a configured critic. Raises ConfigError where none is configured, CorpusError for
    shards that cannot be read.

    `side`: of the pictures shown. `pictures`: how many of the shards, spread evenly over them.
    """
    chosen = list_chosen(config)
    if not chosen:
        raise ConfigError(
            "critics: none is configured; set for example critics.identity.source (`norface critics"
            " list` shows what there is)"
        )
    if side < SMALLEST:
        raise ConfigError(f"side: found {side}; pictures of {SMALLEST} pixels or more are shown")
    place = read_device(device)
    real = read_pictures(config.data.shards, pictures, side).to(place)
    faces = render_faces(side).to(place)
    return [check_critic(config.critics, kind, faces, real) for kind in chosen]


def list_chosen(config: CheckConfig) -> list[str]:
    """Kinds of the critics that a training would load: configured, and not of a loss of null."""
    asked = KINDS if config.losses is None else config.losses.judges
    return [kind for kind in KINDS if kind in asked and getattr(config.critics, kind) is not None]


def find_unjudged(config: CheckConfig) -> list[str]:
    """Terms with a weight above 0 that no critic judges, a line each."""
    weights = config.losses
    if weights is None:
        return []
    return [
        f"losses.{term} is {getattr(weights, term)}, but critics.{CRITIC_OF[term]} is not set; set"
        f" its source ({list_sources(CRITIC_OF[term])}; `norface critics list`) or"
        f" losses.{term}=null"
        for term in weights.trained
        if term in CRITIC_OF and getattr(config.critics, CRITIC_OF[term]) is None
    ]


def check_critic(config: CriticsConfig, kind: str, faces: Tensor, real: Tensor) -> Finding:
    """Load one critic and show it faces (N, 3, S, S) and real pictures (M, 3, S, S), M may be 0."""
    choice = getattr(config, kind)
    about: dict[str, Any] = {"kind": kind, "source": choice.source}
    try:
        critic = build_critics(CriticsConfig(**{kind: choice}), faces.device)[kind]
        about |= {
            "card": critic.card,
            "parameters": sum(tensor.numel() for tensor in critic.state_dict().values()),
        }
        problems: list[str] = []
        about |= measure(critic, faces, problems)
        if len(real):
            about["shards"] = find_range(ask(critic, kind, real))
    except NorfaceError as error:
        problems = [str(error)]
    return Finding(**about, problems=problems)


def measure(critic: Critic, faces: Tensor, problems: list[str]) -> dict[str, Any]:
    """Features, gradient, speed and bf16 on faces; what is unfit is added to `problems`."""
    levels = ask(critic, critic.kind, faces)
    flat = torch.cat([level.flatten(1) for level in levels], 1)
    with torch.no_grad(), torch.autocast(faces.device.type, torch.bfloat16):
        half = torch.cat([level.float().flatten(1) for level in as_levels(critic(faces))], 1)
    if float((flat[0] - flat[1]).norm()) <= 1e-6 * float(flat[0].norm()):
        problems.append("answers the same for two different faces; are these its weights?")
    if not bool(half.isfinite().all()):
        problems.append("features are not finite under bf16 autocast")
    # The first pass is not timed: it plans kernels and fills caches.
    started = time.perf_counter()
    images = faces.clone().requires_grad_()
    pull(as_levels(critic(images))).backward()
    gradient = float(images.grad.norm()) if images.grad is not None else 0.0
    spent = time.perf_counter() - started
    if not np.isfinite(gradient) or gradient == 0:
        problems.append(f"the gradient in the picture is {gradient}; nothing can learn from it")
    return {
        "shapes": [list(level.shape[1:]) for level in levels],
        "synthetic": find_range(levels),
        "milliseconds": 1000 * spent / len(faces),
        "gradient": gradient,
        "bf16": float((half - flat).norm() / flat.norm().clamp(min=1e-12)),
    }


@torch.no_grad()
def ask(critic: Critic, kind: str, images: Tensor) -> list[Tensor]:
    """Features of images, eight at a time. Raises WeightsError for NaN."""
    parts = [as_levels(critic(some)) for some in images.split(8)]
    levels = [torch.cat(level) for level in zip(*parts, strict=True)]
    check_features({kind: levels})
    return levels


def pull(levels: Sequence[Tensor]) -> Tensor:
    """A scalar in which every feature has its own weight: seeded, of mean square 1 in all.

    Not the mean of squares, whose gradient is 0 for embeddings of unit length.
    """
    flat = torch.cat([level.float().flatten(1) for level in levels], 1)
    weights = torch.randn(flat.shape[1], generator=torch.Generator().manual_seed(0))
    return (flat @ (weights / flat.shape[1] ** 0.5).to(flat.device)).sum()


def as_levels(found: Any) -> list[Tensor]:
    """Features as a list of tensors, one or several."""
    return list(found) if isinstance(found, list) else [found]


def find_range(levels: Sequence[Tensor]) -> tuple[float, float]:
    """Lowest and highest number."""
    return min(float(one.min()) for one in levels), max(float(one.max()) for one in levels)


def render_faces(side: int) -> Tensor:
    """FACES synthetic faces (FACES, 3, side, side), -1..1, of different persons."""
    from norface.synthetic.corpus import draw_frame
    from norface.synthetic.renderer import render

    frames = [draw_frame("critics", person, 3) for person in range(FACES)]
    return torch.stack([to_image(render(one.parameters, side).pixels) for one in frames])


def read_pictures(folders: Sequence[Path], most: int, side: int) -> Tensor:
    """Up to `most` pictures (M, 3, side, side) spread over shards; M = 0 without folders."""
    if not folders:
        return torch.zeros(0, 3, side, side)
    index = ShardIndex.open(folders)
    rows = np.unique(np.linspace(0, len(index) - 1, most).astype(int))
    return torch.stack([to_image(resize_pixels(index.read_pixels(int(r)), side)) for r in rows])
