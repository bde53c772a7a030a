"""HRNet-W18 (Sun et al. 2019) with a heat map for each of 68 points, and where their peaks are.

The body is timm's; tensors are named as in HRNet/HRNet-Facial-Landmark-Detection:lib/models/
hrnet.py, so that HR18-300W.pth fits. That code enlarges coarse branches bilinearly, where timm's
repeats their cells.
"""

from __future__ import annotations

import torch
from timm.models.hrnet import HighResolutionNet, cfg_cls
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 256
"Side of its pictures; heat maps are a quarter of it."
WIDTHS = (18, 36, 72, 144)
"Channels of the four branches."
SHARPNESS = 20.0
"""Heat maps are Gaussians of height 1 and of 1 cell (experiments/300w/face_alignment_300w_hrnet_w18
.yaml: SIGMA 1.0). exp(20 h) leaves 4096 empty cells less than 1e-5 of a peak's weight, so that the
centre of mass is the peak's, and says where between cells it lies."""


class HrnetLandmarks(nn.Module):
    """images (N, 3, 256, 256), scaled as ImageNet => (N, points, 2) in units of the side."""

    def __init__(self, points: int = 68):
        super().__init__()
        net = HighResolutionNet(cfg_cls["hrnet_w18"], head="")
        for module in net.modules():
            if isinstance(module, nn.Upsample):
                module.mode, module.align_corners = "bilinear", False
        self.body = net
        width = sum(WIDTHS)
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, points, 1),
        )

    def heat(self, images: Tensor) -> Tensor:
        """images => heat maps (N, points, 64, 64)."""
        net = self.body
        x = F.relu(net.bn1(net.conv1(images)))
        x = F.relu(net.bn2(net.conv2(x)))
        maps = net.stages(x)
        size = maps[0].shape[-2:]
        finest = [maps[0]]
        for one in maps[1:]:
            finest.append(F.interpolate(one, size, mode="bilinear", align_corners=False))
        return self.head(torch.cat(finest, 1))

    def forward(self, images: Tensor) -> Tensor:
        return find_peaks(self.heat(images))


def find_peaks(heat: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """Heat maps (N, P, h, w) => peaks (N, P, 2) x, y in units of the side, differentiable.

    The centre of mass of exp(sharpness x heat); a cell's place is its centre.
    """
    height, width = heat.shape[-2:]
    share = (sharpness * heat).flatten(2).softmax(2).unflatten(2, (height, width))
    x = (torch.arange(width).to(share) + 0.5) / width
    y = (torch.arange(height).to(share) + 0.5) / height
    return torch.stack([share.sum(2) @ x, share.sum(3) @ y], -1)
