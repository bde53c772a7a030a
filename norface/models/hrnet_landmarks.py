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
POWER = 6
"""Heat maps are Gaussians of height 1 and of 1 cell (experiments/300w/face_alignment_300w_hrnet_w18
.yaml: SIGMA 1.0). Raised to this power they are still Gaussians, whose centre of mass is within
0.1 cells of the peak wherever between cells it lies, while a second peak of half the height counts
for 2 % and a background of 0.02 for nothing."""
NOTHING = 1e-12
"Weight of a cell without heat: where there is none at all, a point is in the middle, not NaN."


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


def find_peaks(heat: Tensor) -> Tensor:
    """Heat maps (N, P, h, w) => peaks (N, P, 2) x, y in units of the side, differentiable.

    The centre of mass of the POWER-th power of what is above 0, whatever the height of the peak; a
    cell's place is its centre.
    """
    height, width = heat.shape[-2:]
    top = heat.detach().amax((2, 3), keepdim=True).clamp(min=NOTHING)
    mass = (heat / top).relu().pow(POWER) + NOTHING
    share = mass / mass.sum((2, 3), keepdim=True)
    x = (torch.arange(width).to(share) + 0.5) / width
    y = (torch.arange(height).to(share) + 0.5) / height
    return torch.stack([share.sum(2) @ x, share.sum(3) @ y], -1)
