"""F_cla: original and normalized faces => action units or emotions (section 3.2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from norface.config import Config
from norface.errors import WeightsError
from norface.files import write_tensors
from norface.models.convolutional import ConvConfig, ConvExtractor
from norface.models.moe import MixtureOfExperts, MoEConfig, RouterStatistics
from norface.models.vit import FaceEncoder, VitConfig


class ClassifierConfig(Config):
    """What F_cla is made of. Blocks, m and k are the paper's, which prints no other size."""

    extractor: Literal["vit", "conv"] = "vit"
    "E_f, shared by all streams: a vision transformer, or a small network for small budgets."
    vit: VitConfig = VitConfig()
    extractor_weights: Path | None = None
    """What E_f starts from, for extractor vit: a file of `norface train mae`, of MAE, MAE-Face or
    timm (models/weights.py); null = fresh weights."""
    conv: ConvConfig = ConvConfig()
    moe: MoEConfig = MoEConfig()
    "Every MoE block."
    input_moe: bool = True
    "M_i, one MoE block a stream; false = identity (Table 11)."
    output_moe: bool = True
    "M_o, an MoE block over the streams together; false = identity (Table 11)."

    centre_streams: bool = False
    """Subtract each stream's mean face over the train subjects, divide by its spread: aligned faces
    differ little, and a small network trained from nothing then sees what differs."""

    @property
    def side(self) -> int:
        """Side of the pictures that E_f reads."""
        return self.vit.side if self.extractor == "vit" else self.conv.side


class TokenExtractor(nn.Module):
    """images (N, 3, S, S), -1..1 => representations (N, L): the mean over the encoder's tokens."""

    def __init__(self, config: VitConfig):
        super().__init__()
        self.encoder = FaceEncoder(config)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.encoder(images).mean(dim=1))


class StreamCentre(nn.Module):
    """Pictures of each stream, -1..1 => their difference from its mean face, of unit spread."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, streams: int, side: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(streams, 3, side, side))
        self.register_buffer("std", torch.ones(streams))

    def fit(self, images: torch.Tensor) -> None:
        """Take mean and spread of the train subjects' pictures (N, streams, 3, S, S)."""
        self.mean.copy_(images.mean(dim=0))
        spread = (images - self.mean.to(images.device)).square().mean(dim=(0, 2, 3, 4)).sqrt()
        self.std.copy_(spread.clamp_min(1e-3))

    def forward(self, images: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [(x - self.mean[i]) / self.std[i] for i, x in enumerate(images)]


class FeatureAdapter(nn.Module):
    """Precomputed features (N, F) => e_n (N, L), after standardization by the train subjects."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, features: int, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.project = nn.Linear(features, width)
        self.norm = nn.LayerNorm(width)

    def fit(self, features: torch.Tensor) -> None:
        """Take mean and standard deviation of the train subjects' features (N, F)."""
        self.mean.copy_(features.mean(dim=0))
        self.std.copy_(features.std(dim=0, correction=0).clamp_min(1e-6))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.norm(self.project((features - self.mean) / self.std))


class Classifier(nn.Module):
    """F_cla: E_f -> M_i a stream -> concatenation -> M_o -> linear head.

    images: pictures of `image_streams` streams, the original first, each (N, 3, S, S), -1..1;
    features: (N, feature_width) in the place of a normalized stream (Table 9), where that is not 0.
    Returns logits (N, outputs) and the statistics of every router, input blocks first.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        *,
        outputs: int,
        image_streams: int = 1,
        feature_width: int = 0,
    ):
        super().__init__()
        self.config = config
        self.shape = {
            "outputs": outputs,
            "image_streams": image_streams,
            "feature_width": feature_width,
        }
        if config.extractor == "vit":
            self.extractor: nn.Module = TokenExtractor(config.vit)
            width = config.vit.width
        else:
            self.extractor = ConvExtractor(config.conv)
            width = config.conv.width
        self.centre = StreamCentre(image_streams, config.side) if config.centre_streams else None
        self.adapter = FeatureAdapter(feature_width, width) if feature_width else None
        streams = image_streams + bool(feature_width)
        inputs = [MixtureOfExperts(width, config.moe) for _ in range(streams)]
        self.input_moe = nn.ModuleList(inputs if config.input_moe else [])
        both = streams * width
        self.output_moe = MixtureOfExperts(both, config.moe) if config.output_moe else None
        self.head = nn.Linear(both, outputs)

    @property
    def router_shape(self) -> tuple[int, int]:
        """(routers, experts) of the noise that one sample draws in training."""
        if not self.config.moe.experts:
            return 0, 0
        return len(self.input_moe) + (self.output_moe is not None), self.config.moe.experts

    def layers_above(self, name: str) -> int:
        """How many layers of the vision transformer a parameter has above it: 0 for what is new."""
        depth = self.config.vit.depth
        part = name.removeprefix("extractor.encoder.vit.")
        if part == name or part.startswith("norm."):
            return 0
        block = part.split(".")[1] if part.startswith("blocks.") else "-1"
        return depth - int(block)

    def forward(
        self,
        images: Sequence[torch.Tensor],
        features: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, list[RouterStatistics]]:
        """`noise`: standard normal (N, *router_shape) keyed by sample, in training only."""
        if self.centre is not None:
            images = self.centre(images)
        # One pass over all streams: E_f is shared, and a larger batch is the faster one.
        parts = list(self.extractor(torch.cat(list(images))).chunk(len(images)))
        if self.adapter is not None:
            parts.append(self.adapter(features))
        draws = iter([] if noise is None else noise.unbind(dim=1))
        statistics: list[RouterStatistics] = []

        def refine(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
            y, decided = block(x, next(draws, None))
            if decided is not None:
                statistics.append(decided)
            return y

        if self.input_moe:
            parts = [refine(block, x) for block, x in zip(self.input_moe, parts, strict=True)]
        together = torch.cat(parts, dim=1)
        if self.output_moe is not None:
            together = refine(self.output_moe, together)
        return self.head(together), statistics


def to_scores(logits: torch.Tensor, task: str) -> torch.Tensor:
    """Logits (N, T) => what predictions hold: probabilities of units (au), 0..5 (intensity),
    probabilities of the classes (emotion)."""
    if task == "au":
        return logits.sigmoid()
    return logits.clamp(0, 5) if task == "intensity" else logits.softmax(dim=1)


def save_classifier(
    path: str | Path, model: Classifier, state: dict[str, torch.Tensor], about: dict[str, Any]
) -> None:
    """Write weights `state` with the architecture and `about` (task, targets, ...) as metadata."""
    described = {"config": model.config.model_dump(mode="json"), **model.shape, **about}
    write_tensors(Path(path), state, {"norface": json.dumps(described)})


def load_classifier(path: str | Path) -> tuple[Classifier, dict[str, Any]]:
    """Read what `save_classifier` wrote, in eval mode on the CPU. Raises WeightsError."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a readable classifier file ({error})") from None
    if "norface" not in metadata:
        raise WeightsError(f"{path}: holds no description of a classifier; train one first")
    try:
        about = json.loads(metadata["norface"])
        if "config" not in about and "architecture" in about:
            raise WeightsError(
                f"{path}: is a generator's file; give classifier.safetensors of `norface train cla`"
            )
        model = Classifier(
            ClassifierConfig.model_validate(about["config"]),
            outputs=about["outputs"],
            image_streams=about["image_streams"],
            feature_width=about["feature_width"],
        )
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: does not fit this version's classifier ({reason})") from None
    return model.eval(), about
