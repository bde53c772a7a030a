"""A reader of one person: how much expression can be seen in normalized faces.

It is trained on renders of the target alone and judges normalized pictures; no loss of F_nor uses
it, and nothing that it says flows back.
"""

from __future__ import annotations

import numpy as np
import torch

from norface.images import to_image
from norface.models.face_networks import FaceNetworkConfig, FaceReader, build_face_network

SIZE = FaceNetworkConfig(channels=(16, 32, 64, 96), blocks=(1, 1, 2, 1), points=48, hidden=128)
"One person's pictures need less of a network than everybody's."


def train_target_reader(
    pixels: np.ndarray, intensity: np.ndarray, *, epochs: int = 40, batch: int = 32, seed: int = 0
) -> FaceReader:
    """Fit a small reader to pictures of one person.

    pixels: uint8 (N, S, S, 3); intensity: (N, 17) in the order of face_networks.UNITS, 0..5. Shifts
    of up to two pixels and a little noise keep it from learning the pictures by heart.
    """
    network = build_face_network(SIZE.model_copy(update={"seed": seed}))
    assert isinstance(network, FaceReader)
    images, truth = to_image(pixels), torch.as_tensor(intensity, dtype=torch.float32) / 5
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=max(steps, 2))
    generator = torch.Generator().manual_seed(seed)
    # The spread of a unit says how much its errors weigh: a rare unit counts like a common one.
    spread = truth.std(dim=0).clamp(min=0.02)
    network.train()
    for step in range(steps):
        if step % (len(images) // batch) == 0:
            order = torch.randperm(len(images), generator=generator)
        chosen = order[(step * batch) % (len(images) // batch * batch) :][:batch]
        shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
        shown = torch.roll(images[chosen], shift, dims=(2, 3))
        shown = shown + 0.03 * torch.randn(shown.shape, generator=generator)
        error = (network(shown)["intensity"] - truth[chosen]) / spread
        optimizer.zero_grad(set_to_none=True)
        error.square().mean().backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def read_intensity(network: FaceReader, pixels: np.ndarray, *, batch: int = 128) -> np.ndarray:
    """uint8 (N, S, S, 3) => intensities (N, 17), 0..5 scale (not clipped)."""
    parts = [
        network(to_image(pixels[start : start + batch]))["intensity"]
        for start in range(0, len(pixels), batch)
    ]
    return 5 * torch.cat(parts).numpy()
