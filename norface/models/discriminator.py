"""D_res: a residual discriminator that judges patches (eq. 4)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from norface.config import Config
from norface.errors import WeightsError
from norface.files import write_tensors

METADATA = "discriminator"
"Key of the file's metadata that holds its sizes."


class DiscriminatorConfig(Config):
    """Sizes of the discriminator. No batch normalization: its buffers differ between ranks."""

    channels: list[int] = Field([64, 128, 256, 512, 512], min_length=1)
    "Channels after the stem, which halves the side, and after each further halving."
    condition: Literal["none", "pair"] = "none"
    """How [ , ] of eq. 4 is read. none = as a batch: the target is real, the normalized face is
    not. pair = as a stack: the target beside another face of its person is real, beside the
    normalized face it is not, so that a sharp face of somebody else does not pass."""
    spectral_norm: bool = True
    "Divide each weight by its largest singular value, which keeps the hinge game steady."


class Discriminator(nn.Module):
    """images (N, 3, S, S), -1..1 => one score a patch (N, 1, h, w); high = looks real.

    With condition pair it also sees the target (N, 3, S, S) that each is to be of.
    """

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.config = config
        first, last = config.channels[0], config.channels[-1]
        inputs = 6 if config.condition == "pair" else 3
        self.stem = nn.Conv2d(inputs, first, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(
            *(
                DownBlock(before, after)
                for before, after in zip(config.channels, config.channels[1:], strict=False)
            )
        )
        self.head = nn.Conv2d(last, 1, 3, padding=1)
        if config.spectral_norm:
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d):
                    spectral_norm(module)

    def forward(self, images: torch.Tensor, target: torch.Tensor | None = None) -> torch.Tensor:
        """(N, 3, S, S), and as many targets for condition pair => (N, 1, h, w), h = S /
        2^len(channels)."""
        if self.config.condition == "pair":
            assert target is not None
            images = torch.cat([target, images], 1)
        return self.head(F.leaky_relu(self.blocks(self.stem(images)), 0.2))


class DownBlock(nn.Module):
    """maps (N, C, h, w) => (N, D, h/2, w/2): two convolutions beside a pooled 1x1 shortcut."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.first = nn.Conv2d(before, before, 3, padding=1)
        self.second = nn.Conv2d(before, after, 4, stride=2, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) => (N, D, h/2, w/2)."""
        branch = self.first(F.leaky_relu(maps, 0.2))
        branch = self.second(F.leaky_relu(branch, 0.2))
        return branch + self.shortcut(F.avg_pool2d(maps, 2))


def save_discriminator(model: Discriminator, path: Path) -> None:
    """Write the weights (fp32) and the sizes as safetensors. Raises OSError, SafetensorError."""
    tensors = {name: tensor.float() for name, tensor in model.state_dict().items()}
    sizes = json.dumps(model.config.model_dump(mode="json"), sort_keys=True)
    write_tensors(path, tensors, {METADATA: sizes})


def load_discriminator(path: Path) -> Discriminator:
    """The network of a file that a run of stage `nor` exported. Raises WeightsError."""
    try:
        with safe_open(str(path), framework="pt") as file:
            sizes = json.loads((file.metadata() or {})[METADATA])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = Discriminator(DiscriminatorConfig(**sizes))
        model.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{path}: not a discriminator of `norface train nor` ({reason})"
        ) from None
    return model
