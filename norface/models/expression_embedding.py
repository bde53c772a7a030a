"""An embedding of the expression, learned from triplets: which two of three faces are most alike.

As FECNet (Vemulapalli and Agarwala, CVPR 2019) and DLN (Zhang et al., CVPR 2021): a network of
pictures, a linear layer to few numbers (16), brought to unit length.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from norface.config import Config
from norface.errors import ConfigError, WeightsError
from norface.files import write_tensors
from norface.images import resize_images
from norface.models.face_networks import FaceNetworkConfig, FaceTrunk
from norface.models.tensors import Standardize, at_least_single

SMALL = "small"
"The trunk of the small networks of the synthetic world, in place of a network of timm."


class EmbeddingConfig(Config):
    """Size of an expression embedding's network."""

    backbone: str = SMALL
    "small, or timm's name of a network; its weights start fresh."
    side: int = Field(64, ge=32)
    "Side of the pictures that it looks at; others are resized to it."
    length: int = Field(16, gt=1)
    "Numbers of the embedding; 16 in FECNet and DLN."
    channels: tuple[int, ...] = (16, 32, 64, 96)
    "Of the small backbone, at side/2, side/4, side/8, side/16."
    blocks: tuple[int, ...] = (1, 1, 2, 1)
    "Of the small backbone: residual convolutions at each of these sizes."
    seed: int = 0
    "Of the initial weights."


class ExpressionEmbedding(nn.Module):
    """images (N, 3, H, W), -1..1 => (N, length) of unit length. `network` answers (N, length)."""

    def __init__(self, network: nn.Module, scaling: nn.Module, side: int):
        super().__init__()
        self.network, self.scaling, self.side = network, scaling, side

    def forward(self, images: Tensor) -> Tensor:
        found = self.network(self.scaling(resize_images(images, self.side)))
        return F.normalize(at_least_single(found), dim=1)


class LastMap(nn.Module):
    """The trunk's maps => the smallest of them, flat."""

    def __init__(self, trunk: FaceTrunk):
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images)[-1].flatten(1)


def build_embedding(config: EmbeddingConfig) -> ExpressionEmbedding:
    """Fresh weights by `config.seed`; torch's own state is left alone. Raises ConfigError."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.backbone != SMALL:
            network, scaling, _ = build_timm(config.backbone, config.length)
            return ExpressionEmbedding(network, scaling, config.side)
        sizes = FaceNetworkConfig(side=config.side, channels=config.channels, blocks=config.blocks)
        trunk = FaceTrunk(sizes)
        head = nn.Linear(trunk.flat, config.length)
        return ExpressionEmbedding(nn.Sequential(LastMap(trunk), head), nn.Identity(), config.side)


def build_timm(name: str, length: int) -> tuple[nn.Module, Standardize, int]:
    """A fresh network of timm with a linear layer to `length`, its scaling and the side that its
    pictures had. Raises ConfigError for an unknown name."""
    import timm

    about = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if about is None:
        near = timm.list_models(f"*{name.split('.')[0]}*")[:5]
        raise ConfigError(
            f"'{name}' is no network of timm; near: {', '.join(near) or 'none'};"
            " see timm.list_models()"
        )
    network = timm.create_model(name, pretrained=False, num_classes=length)
    return network, Standardize(about.mean, about.std), about.input_size[-1]


def save_embedding(network: ExpressionEmbedding, config: EmbeddingConfig, path: Path) -> None:
    """Write weights (half precision) and sizes as .safetensors."""
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    write_tensors(path, tensors, {"embedding": json.dumps(config.model_dump(mode="json"))})


def load_embedding(path: Path) -> tuple[ExpressionEmbedding, EmbeddingConfig]:
    """What `save_embedding` wrote, in single precision. Raises WeightsError."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = EmbeddingConfig(**json.loads(metadata["embedding"]))
        network = build_embedding(config)
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise WeightsError(
            f"{path}: not an embedding of `norface train critic` ({str(error).splitlines()[0]});"
            " for a checkpoint of timm name its `architecture`"
        ) from None
    return network.eval(), config
