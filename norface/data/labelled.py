"""Faces with exact labels, moved and relit at random: what the small judges are trained on."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from norface.data.labels import ACTION_UNITS
from norface.data.loader import Draw
from norface.data.shards import ShardIndex
from norface.images import pack_pixels, unpack_images
from norface.progress import track
from norface.training.seeding import sample_rng


class Changes(Protocol):
    """The largest random changes; see stages/critic_config.py."""

    @property
    def shift(self) -> float: ...
    @property
    def scale(self) -> float: ...
    @property
    def light(self) -> float: ...
    @property
    def noise(self) -> float: ...


class Face(NamedTuple):
    """One labelled face; NaN = unknown."""

    pixels: np.ndarray
    "uint8 (S, S, 3)."
    landmarks: np.ndarray
    "float32 (68, 2), 0..1."
    pose: np.ndarray
    "float32 (3): yaw, pitch, roll in degrees."


class LabelledFaces(torch.utils.data.Dataset):
    """Draw => image uint8 (3, S, S), landmarks (68, 2), intensity (17), pose (3), person; NaN
    unknown.

    Intensities are in fifths of the scale, angles in units of 30 degrees. With `changes`, each draw
    also holds the numbers that `augment_batch` moves and relights it by, keyed by the draw. `cache`
    decodes every picture now.
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        seed: int = 0,
        changes: Changes | None = None,
        cache: bool = False,
    ):
        self.index, self.seed, self.changes = index, seed, changes
        person_of = {person: number for number, person in enumerate(sorted(index.persons))}
        self.persons = len(person_of)
        pairs = zip(index.table["corpus"], index.table["subject"], strict=True)
        self.person = np.array([person_of[pair] for pair in pairs])
        self.intensity = index.labels("intensity", tuple(ACTION_UNITS)) / np.float32(5)
        self.kept: list[Face] | None = None
        if cache:
            rows = track(range(len(index)), "decode", len(index), "face")
            self.kept = [self.read(row) for row in rows]

    def __len__(self) -> int:
        return len(self.index)

    def read(self, row: int) -> Face:
        """Picture, landmarks and pose of a row, from the shards."""
        record = self.index.read_record(row)
        landmarks = np.full((68, 2), np.nan, np.float32)
        if record.landmarks is not None:
            landmarks[:] = record.landmarks
        pose = np.full(3, np.nan, np.float32)
        if record.pose is not None:
            pose[:] = record.pose
        return Face(self.index.read_pixels(row), landmarks, pose)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        face = self.read(draw.row) if self.kept is None else self.kept[draw.row]
        change, noise_seed = self.draw_change(draw)
        return {
            "key": self.index.key_of(draw.row),
            "image": pack_pixels(face.pixels),
            "landmarks": torch.from_numpy(face.landmarks),
            "intensity": torch.from_numpy(self.intensity[draw.row]),
            "pose": torch.from_numpy(face.pose / np.float32(30)),
            "person": self.person[draw.row],
            "change": torch.from_numpy(change),
            "noise_seed": noise_seed,
        }

    def draw_change(self, draw: Draw) -> tuple[np.ndarray, int]:
        """(dx, dy, scale, brightness, contrast, noise, attack) of this draw, and its noise's seed.

        The last of them is a share, 0..1, of the length that stage `critic` may step.
        """
        if self.changes is None:
            return np.array([0, 0, 1, 0, 1, 0, 0], np.float32), 0
        by, rng = self.changes, sample_rng(self.seed, draw.epoch, draw.position, "critic")
        u = rng.uniform(-1, 1, 7)
        moved = [by.shift * u[0], by.shift * u[1], 1 + by.scale * u[2]]
        relit = [by.light * u[3], 1 + by.light * u[4], by.noise * abs(u[5]), abs(u[6])]
        return np.array([*moved, *relit], np.float32), int(rng.integers(2**62))


def augment_batch(batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Images and landmarks, moved and relit by each sample's `change`.

    A point p of the picture goes to (p - 0.5) * scale + 0.5 + shift.
    """
    device = batch["image"].device
    image, change = unpack_images(batch["image"], device), batch["change"].to(device)
    shift, scale = change[:, :2], change[:, 2].view(-1, 1, 1)
    theta = torch.zeros(len(image), 2, 3, device=image.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / change[:, 2]
    theta[:, :, 2] = -2 * shift / change[:, 2:3]
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    landmarks = (batch["landmarks"] - 0.5) * scale + 0.5 + shift[:, None]
    light = change[:, 3:6].view(-1, 3, 1, 1)
    noise = torch.stack([draw_noise(int(seed), image[0]) for seed in batch["noise_seed"]])
    return image * light[:, 1:2] + light[:, :1] + noise * light[:, 2:], landmarks


def draw_noise(seed: int, like: Tensor) -> Tensor:
    """Normal noise keyed by the sample's own seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator).to(like.device)
