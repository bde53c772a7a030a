"""The small networks of the synthetic world: one that reads faces, one that knows people.

Both look at 64x64 pictures. They stand in for the judges of the paper where a lab has no weights:
FaceReader for the landmark detector, the expression embedding and the eyebrow coefficients,
IdentityNetwork for ArcFace and for VGG's feature maps. `norface train critic` trains them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from norface.config import Config
from norface.data.labels import ACTION_UNITS
from norface.errors import WeightsError
from norface.images import resize_images
from norface.models.tensors import at_least_single
from norface.synthetic.version import ANY_RENDERER, RENDERER_VERSION

UNITS = tuple(ACTION_UNITS)
"Action units in the order of FaceReader's intensities."
POINTS = 68
"Landmarks of a face."


class FaceNetworkConfig(Config):
    """Size of one of the small networks."""

    kind: Literal["reader", "identity"] = "reader"
    "reader: landmarks, action-unit intensities, pose. identity: an embedding of the person."
    side: int = Field(64, ge=32)
    "Side of the pictures that it looks at; others are resized to it."
    channels: tuple[int, ...] = (24, 48, 96, 128)
    "Channels at side/2, side/4, side/8, side/16."
    blocks: tuple[int, ...] = (1, 2, 3, 2)
    "Residual convolutions at each of these sizes."
    points: int = Field(64, gt=0)
    "Channels below the reader's heat maps."
    hidden: int = Field(192, gt=0)
    "Width of the reader's layers between landmarks, last map and outputs."
    embedding: int = Field(64, gt=0)
    "Length of the identity embedding."
    seed: int = 0
    "Of the initial weights."


class ResidualConvolution(nn.Module):
    """x => relu(x + norm(conv3x3(x))), same shape."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)))


class FaceTrunk(nn.Module):
    """Images (N, 3, S, S), -1..1 => a feature map a size, down to (N, C, side/16, side/16)."""

    def __init__(self, config: FaceNetworkConfig):
        super().__init__()
        stages, width = [], 3
        for channels, blocks in zip(config.channels, config.blocks, strict=True):
            down = [
                nn.Conv2d(width, channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            stages.append(
                nn.Sequential(*down, *(ResidualConvolution(channels) for _ in range(blocks)))
            )
            width = channels
        self.side = config.side
        self.stages = nn.ModuleList(stages)
        self.flat = width * (config.side // 2 ** len(stages)) ** 2

    def forward(self, images: Tensor) -> list[Tensor]:
        """Any side is resized (areas averaged when shrinking); returns the map of every stage."""
        images = resize_images(images, self.side)
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps


class LandmarkHead(nn.Module):
    """Maps of a trunk => 68 points: a heat map each, and its centre of mass (soft argmax).

    Regressing points from flattened maps was seen to stay at 4 % of the side where this reaches
    1 %, and how well action units of new people can be read hangs on it.
    """

    REACH = 1.15
    "Points a little outside the picture can be told too."
    cells: Tensor

    def __init__(self, config: FaceNetworkConfig):
        super().__init__()
        self.first = min(1, len(config.channels) - 1)
        side = config.side // 2 ** (self.first + 1)
        width = config.points
        self.heat = nn.Sequential(
            nn.Conv2d(sum(config.channels[self.first :]), width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, POINTS, 1),
        )
        centres = ((torch.arange(side) + 0.5) / side - 0.5) * self.REACH + 0.5
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        self.register_buffer("cells", torch.stack([x.flatten(), y.flatten()], 1), persistent=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The trunk's maps => (N, 68, 2) in units of the side."""
        seen = maps[self.first :]
        size = seen[0].shape[-2:]
        finest = torch.cat([seen[0], *(F.interpolate(one, size) for one in seen[1:])], 1)
        return self.heat(finest).flatten(2).to(self.cells.dtype).softmax(2) @ self.cells


class FaceReader(nn.Module):
    """Landmarks, action-unit intensities and pose of a face, whoever it is."""

    renderer = str(RENDERER_VERSION)
    "Whose synthetic faces it was trained on, see `load_face_network`; `any` = on none."

    def __init__(self, config: FaceNetworkConfig):
        super().__init__()
        self.config = config
        self.trunk = FaceTrunk(config)
        self.landmarks = LandmarkHead(config)
        self.shape = nn.BatchNorm1d(2 * POINTS)
        self.look = nn.Sequential(
            nn.Flatten(),
            nn.Linear(self.trunk.flat, config.hidden, bias=False),
            nn.BatchNorm1d(config.hidden),
            nn.ReLU(),
        )
        self.hidden = nn.Sequential(
            nn.Linear(2 * POINTS + config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
        )
        self.intensity = nn.Linear(config.hidden, len(UNITS))
        self.pose = nn.Linear(config.hidden, 3)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W), -1..1 => landmarks (N, 68, 2) in units of the side, intensity (N, 17) in
        fifths of the scale (1 = intensity 5), pose (N, 3): yaw, pitch, roll, in units of 30
        degrees."""
        return self.read(self.trunk(images))

    def read(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """As `forward`, from the trunk's maps."""
        landmarks = self.landmarks(maps)
        hidden = self.represent(maps, landmarks)
        return {
            "landmarks": landmarks,
            "intensity": at_least_single(self.intensity(hidden)),
            "pose": at_least_single(self.pose(hidden)),
        }

    def represent(self, maps: list[Tensor], landmarks: Tensor) -> Tensor:
        """The trunk's maps and the landmarks in them => (N, hidden): what intensities and pose are
        linear in."""
        shape = self.shape(landmarks.flatten(1))
        return self.hidden(torch.cat([shape, self.look(maps[-1])], 1))


class IdentityNetwork(nn.Module):
    """An embedding of the person, the same over expression, pose and light."""

    renderer = str(RENDERER_VERSION)
    "As of a FaceReader."

    def __init__(self, config: FaceNetworkConfig):
        super().__init__()
        self.config = config
        self.trunk = FaceTrunk(config)
        self.embedding = nn.Sequential(
            nn.Flatten(),
            nn.Linear(self.trunk.flat, config.embedding),
            nn.BatchNorm1d(config.embedding),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), -1..1 => (N, embedding), unit length."""
        return self.read(self.trunk(images))

    def read(self, maps: list[Tensor]) -> Tensor:
        """As `forward`, from the trunk's maps."""
        return F.normalize(at_least_single(self.embedding(maps[-1])), dim=1)


def build_face_network(config: FaceNetworkConfig) -> FaceReader | IdentityNetwork:
    """The network with weights freshly drawn by `config.seed`; torch's own state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return FaceReader(config) if config.kind == "reader" else IdentityNetwork(config)


def fold_norms(network: nn.Module) -> nn.Module:
    """Batch normalization after a convolution becomes part of it, in place; for frozen networks.

    The answers stay the same up to rounding, and a third of the work around convolutions goes.
    """
    for module in network.modules():
        names = list(module._modules)
        for first, second in zip(names, names[1:], strict=False):
            convolution, norm = module._modules[first], module._modules[second]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(convolution, norm))
                setattr(module, second, nn.Identity())
    return network


def load_face_network(path: Path, *, to_judge: bool = True) -> FaceReader | IdentityNetwork:
    """The network in a file that stage `critic` exported (half precision inside, float32 here).

    Raises WeightsError for a file of another kind or with missing tensors, and, where it is
    `to_judge` faces and not just to be trained on, for one of another renderer's faces than ours.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = build_face_network(FaceNetworkConfig(**json.loads(metadata["network"])))
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{path}: not a critic of the synthetic world ({reason});"
            " `norface train critic` makes one"
        ) from None
    network.renderer = metadata.get("renderer", "1")
    if to_judge:
        check_renderer(path, network.renderer)
    return network.eval()


def check_renderer(path: Path, version: str) -> None:
    """Raises WeightsError unless `version`, the renderer that a critic names, is ours or `any`."""
    if version not in (ANY_RENDERER, str(RENDERER_VERSION)):
        raise WeightsError(
            f"{path}: trained on synthetic faces of renderer {version}, and this norface draws with"
            f" renderer {RENDERER_VERSION}; train it again (`norface train critic` on shards that"
            " `norface synth` writes now), or reinstall norface if it came with it"
        )
