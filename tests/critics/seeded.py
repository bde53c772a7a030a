"""Networks with seeded weights, faces to show them, and the check of their gradients."""

import pytest
import torch
from torch.nn import functional as F


def settle(network: torch.nn.Module) -> torch.nn.Module:
    """Seeded weights, and statistics as training leaves them: neither 0 nor 1."""
    torch.manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and tensor.dim() == 1):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and tensor.dim() > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.1)
    return network.eval()


def draw_faces(count=2, side=64):
    """Smooth noise (count, 3, side, side), -1..1."""
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
    return F.interpolate(small, (side, side), mode="bilinear")


def check_gradient(critic, image, *, rel=1e-3):
    """The gradient's length is the slope along it, by central differences in double precision."""

    def answer(image):
        found = critic(image).flatten()
        return found @ torch.linspace(-1, 1, len(found), dtype=found.dtype)

    image = image.double().requires_grad_()
    answer(image).backward()
    length, step = image.grad.norm(), 1e-5
    with torch.no_grad():
        ahead, behind = (answer(image + sign * step * image.grad / length) for sign in (1, -1))
    assert length > 0
    assert length.item() == pytest.approx((ahead - behind).item() / (2 * step), rel=rel)
