"""`norface bench traffic`: what a step of the full-size stages sends and holds on many GPUs.

Counted on paper, from the networks' sizes; docs/scaling.md says how the counts were checked.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from norface.config import Config
from norface.models.classifier import Classifier, ClassifierConfig
from norface.models.discriminator import Discriminator, DiscriminatorConfig
from norface.models.mae import MaskedAutoencoder, MaskedAutoencoderConfig
from norface.models.normalizer import Normalizer, NormalizerConfig
from norface.training.backends.traffic import held_bytes, sent_bytes

RANKS = (8, 64, 512)
BACKENDS = {"DDP": None, "ZeRO 1": 1, "ZeRO 2": 2, "ZeRO 3": 3}


class Trained(NamedTuple):
    """A network of a stage."""

    numbers: int
    averaged: bool = False
    gathers: int = 0
    "How often a step wants it whole besides training it: to be averaged, or asked while frozen."


class StageTraffic(Config):
    """One stage under one backend on one number of GPUs."""

    stage: str
    backend: str
    ranks: int
    sent_gb: float
    "By each rank in a step, in 10^9 bytes."
    held_gb: float
    "On each rank: weights, gradients, optimizer, average, copies."


class Traffic(Config):
    """All of them."""

    numbers: dict[str, dict[str, int]]
    "Stage => network => trained numbers."
    rows: list[StageTraffic]

    def describe(self) -> str:
        """A table in Markdown, as docs/scaling.md has it."""
        lines = [
            f"{stage}: " + ", ".join(f"{name} {n / 1e6:.1f} M" for name, n in found.items())
            for stage, found in self.numbers.items()
        ]
        heads = "".join(f" sent, {ranks} | held, {ranks} |" for ranks in RANKS)
        lines += ["", f"| stage | backend |{heads}", "|---|---|" + "---|---|" * len(RANKS)]
        for stage in self.numbers:
            for backend in BACKENDS:
                own = [row for row in self.rows if (row.stage, row.backend) == (stage, backend)]
                cells = "".join(f" {row.sent_gb:.2f} | {row.held_gb:.2f} |" for row in own)
                lines.append(f"| {stage} | {backend} |{cells}")
        return "\n".join(lines)


def count_traffic() -> Traffic:
    """Of the stages nor, cla (12 units, one normalized stream) and mae at full size (ViT-B/16)."""
    stages = full_size()
    rows = []
    for stage, networks in stages.items():
        for backend, zero_stage in BACKENDS.items():
            for ranks in RANKS:
                sent = sum(
                    sent_bytes(one.numbers, zero_stage=zero_stage, ranks=ranks, gathers=one.gathers)
                    for one in networks.values()
                )
                held = sum(
                    held_bytes(
                        one.numbers, zero_stage=zero_stage, ranks=ranks, averaged=one.averaged
                    ).total
                    for one in networks.values()
                )
                rows.append(
                    StageTraffic(
                        stage=stage,
                        backend=backend,
                        ranks=ranks,
                        sent_gb=round(sent / 1e9, 3),
                        held_gb=round(held / 1e9, 3),
                    )
                )
    numbers = {
        stage: {name: one.numbers for name, one in networks.items()}
        for stage, networks in stages.items()
    }
    return Traffic(numbers=numbers, rows=rows)


def full_size() -> dict[str, dict[str, Trained]]:
    """Stage => its trained networks by name, at the default sizes, which are the paper's."""
    with torch.device("meta"):
        generator = count(Normalizer(NormalizerConfig()))
        discriminator = count(Discriminator(DiscriminatorConfig()))
        classifier = count(
            Classifier(ClassifierConfig(), outputs=12, image_streams=2, feature_width=0)
        )
        autoencoder = count(MaskedAutoencoder(MaskedAutoencoderConfig()))
    return {
        "nor": {
            "F_nor": Trained(generator, averaged=True, gathers=1),
            "D_res": Trained(discriminator, gathers=1),
        },
        "cla": {"F_cla": Trained(classifier)},
        "mae": {"MAE": Trained(autoencoder)},
    }


def count(network: nn.Module) -> int:
    """Numbers that are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
