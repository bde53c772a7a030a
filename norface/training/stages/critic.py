"""Stage `critic`: the small judges of the synthetic world, trained from labelled shards.

A reader learns landmarks, action-unit intensities and pose from exact labels; an identity network
learns to tell persons apart. Held-out persons show how good they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from norface.config import Config
from norface.critics.face_reader import (
    UNITS,
    CosineMarginHead,
    FaceNetworkConfig,
    FaceReader,
    IdentityNetwork,
    build_face_network,
)
from norface.data.labels import DETECTION_UNITS, unit_name
from norface.data.loader import DataConfig, Draw, GlobalBatchSampler, build_loader
from norface.data.shards import ShardIndex
from norface.errors import ConfigError
from norface.images import to_image
from norface.training.backends.base import Backend
from norface.training.schedule import ScheduleConfig
from norface.training.seeding import sample_rng
from norface.training.stage import Stage, StageConfig


class CriticLossConfig(Config):
    """Weights of the reader's three tasks."""

    landmarks: float = 200.0
    "Mean squared error, coordinates in units of the image side."
    intensity: float = 10.0
    "Mean squared error, intensities in fifths (1 = intensity 5)."
    pose: float = 1.0
    "Mean squared error, angles in units of 30 degrees."


class AugmentConfig(Config):
    """Random changes that a judge must not care about."""

    shift: float = 0.04
    "Largest shift, in units of the side."
    scale: float = 0.06
    "Largest relative change of size."
    light: float = 0.25
    "Largest change of brightness and contrast, of the range -1..1."
    noise: float = 0.06
    "Largest standard deviation of added noise."


class CriticConfig(StageConfig):
    """Settings of `norface train critic`."""

    name: str = "critic"
    data: DataConfig
    network: FaceNetworkConfig = FaceNetworkConfig()
    losses: CriticLossConfig = CriticLossConfig()
    augment: AugmentConfig = AugmentConfig()
    learning_rate: float = Field(2e-3, gt=0)
    "Peak rate of AdamW."
    schedule: ScheduleConfig = ScheduleConfig(kind="cosine", warmup_steps=200)
    weight_decay: float = Field(0.01, ge=0)
    held_out: int = Field(100, ge=2)
    "Persons (the last in order) kept for measuring only."


class LabelledFaces(torch.utils.data.Dataset):
    """Draw => image (3, S, S), landmarks (68, 2), intensity (17), pose (3), person; NaN unknown."""

    def __init__(self, index: ShardIndex, config: CriticConfig, *, augmented: bool):
        self.index, self.config, self.augmented = index, config, augmented
        self.person_of = {person: number for number, person in enumerate(sorted(index.persons))}

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        record = self.index.read_record(draw.row)
        landmarks = np.full((68, 2), np.nan, np.float32)
        if record.landmarks is not None:
            landmarks[:] = record.landmarks
        pose = np.full(3, np.nan, np.float32)
        if record.pose is not None:
            pose[:] = record.pose
        return {
            "key": record.key,
            "image": to_image(self.index.read_pixels(draw.row)),
            "landmarks": torch.from_numpy(landmarks),
            "intensity": torch.tensor(
                [record.intensity.get(unit, math.nan) / 5 for unit in UNITS], dtype=torch.float32
            ),
            "pose": torch.from_numpy(pose / np.float32(30)),
            "person": self.person_of[record.corpus, record.subject],
            "change": torch.from_numpy(self.draw_change(draw)),
            "noise_seed": int(self.rng(draw, "noise").integers(2**62)) if self.augmented else 0,
        }

    def rng(self, draw: Draw, purpose: str) -> np.random.Generator:
        return sample_rng(self.config.seed, draw.epoch, draw.position, purpose)

    def draw_change(self, draw: Draw) -> np.ndarray:
        """(dx, dy, scale, brightness, contrast, noise) of this sample."""
        if not self.augmented:
            return np.array([0, 0, 1, 0, 1, 0], np.float32)
        by, rng = self.config.augment, self.rng(draw, "critic")
        u = rng.uniform(-1, 1, 6)
        changes = [by.shift * u[0], by.shift * u[1], 1 + by.scale * u[2], by.light * u[3]]
        return np.array([*changes, 1 + by.light * u[4], by.noise * abs(u[5])], np.float32)


def augment_batch(batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Images and landmarks, moved and relit by each sample's `change`.

    A point p of the picture goes to (p - 0.5) * scale + 0.5 + shift.
    """
    image, change = batch["image"], batch["change"].to(batch["image"].device)
    shift, scale = change[:, :2], change[:, 2].view(-1, 1, 1)
    theta = torch.zeros(len(image), 2, 3, device=image.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / change[:, 2]
    theta[:, :, 2] = -2 * shift / change[:, 2:3]
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    landmarks = (batch["landmarks"] - 0.5) * scale + 0.5 + shift[:, None]
    light = change[:, 3:].view(-1, 3, 1, 1)
    noise = torch.stack([draw_noise(int(seed), image[0]) for seed in batch["noise_seed"]])
    return image * light[:, 1:2] + light[:, :1] + noise * light[:, 2:], landmarks


def draw_noise(seed: int, like: Tensor) -> Tensor:
    """Normal noise keyed by the sample's own seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator).to(like.device)


def masked_mse(found: Tensor, truth: Tensor) -> Tensor:
    """Mean of squares over the entries of `truth` that are not NaN; 0 when none is."""
    known = ~truth.isnan()
    error = torch.where(known, found - truth.nan_to_num(), torch.zeros_like(found))
    return error.square().sum() / known.sum().clamp(min=1)


class CriticStage(Stage):
    """Trains one FaceReader or IdentityNetwork."""

    name = "critic"

    def __init__(self, config: CriticConfig, backend: Backend):
        self.config, self.backend = config, backend
        index = config.data.open()
        persons = sorted(index.persons)
        if len(persons) <= config.held_out + 1:
            raise ConfigError(
                f"held_out: {config.held_out} of {len(persons)} persons leaves too few to train on;"
                " write more persons or hold out fewer"
            )
        self.train_faces = LabelledFaces(
            index.select(subjects=persons[: -config.held_out]), config, augmented=True
        )
        self.test_faces = LabelledFaces(
            index.select(subjects=persons[-config.held_out :]), config, augmented=False
        )
        self.network = build_face_network(config.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        persons_trained = len(self.train_faces.person_of)
        self.model = backend.prepare(JudgedFaces(self.network, config, persons_trained))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        batch = config.trainer.batch_per_rank * backend.world_size
        self.steps = math.ceil(config.trainer.images / batch)
        self.steps_per_epoch = len(self.train_faces.index) // batch

    def batches(self, start_step: int) -> Iterator[dict[str, Any]]:
        sampler = GlobalBatchSampler(
            len(self.train_faces.index),
            batch_per_rank=self.config.trainer.batch_per_rank,
            rank=self.backend.rank,
            world_size=self.backend.world_size,
            seed=self.config.seed,
            start_step=start_step,
        )
        return iter(build_loader(self.train_faces, sampler, workers=self.config.data.workers))

    def train_batch(self, batch: dict[str, Any], step: int) -> dict[str, Tensor]:
        factor = self.config.schedule.factor(step, self.steps)
        rate = self.config.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        batch = {
            name: value.to(self.backend.device) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
        image, landmarks = augment_batch(batch)
        image = image.contiguous(memory_format=torch.channels_last)
        with self.backend.autocast():
            terms = self.model(image, {**batch, "landmarks": landmarks})
        loss = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        self.backend.backward(loss)
        self.optimizer.step()
        shown = {name: term.detach() for name, term in terms.items()}
        return {**shown, "loss": loss.detach(), "lr": torch.tensor(rate)}

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """On held-out persons: r per unit, landmark and yaw error; of an identity network, AUC."""
        network = self.network.eval()
        outputs, truths = [], []
        rows = list(range(len(self.test_faces.index)))
        for start in range(0, len(rows), 128):
            samples = [self.test_faces[Draw(row, 0, row)] for row in rows[start : start + 128]]
            images = torch.stack([sample["image"] for sample in samples]).to(self.backend.device)
            found = network(images.contiguous(memory_format=torch.channels_last))
            outputs.append({"embedding": found} if isinstance(found, Tensor) else found)
            names = ("landmarks", "intensity", "pose")
            truth = {name: torch.stack([sample[name] for sample in samples]) for name in names}
            truth["person"] = torch.tensor([sample["person"] for sample in samples])
            truths.append(truth)
        found = {name: torch.cat([part[name].cpu() for part in outputs]) for name in outputs[0]}
        truth = {name: torch.cat([part[name] for part in truths]) for name in truths[0]}
        if "embedding" in found:
            return measure_identity(found["embedding"].numpy(), truth["person"].numpy())
        return measure_reader(found, truth)

    def state_dict(self) -> dict[str, Any]:
        model = self.backend.unwrap(self.model)
        return {
            "models": {"critic": model.state_dict()},
            "optimizers": {"critic": self.optimizer.state_dict()},
            "extra": {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.backend.unwrap(self.model).load_state_dict(state["models"]["critic"])
        self.optimizer.load_state_dict(state["optimizers"]["critic"])

    def export(self, folder: Path) -> None:
        tensors = {
            name: value.detach().cpu().contiguous().half() if value.is_floating_point() else value
            for name, value in self.network.state_dict().items()
        }
        settings = json.dumps(self.config.network.model_dump(mode="json"))
        save_file(tensors, folder / "critic.safetensors", {"network": settings})


class JudgedFaces(torch.nn.Module):
    """Network and losses behind one forward pass, as DistributedDataParallel wants it."""

    def __init__(self, network: FaceReader | IdentityNetwork, config: CriticConfig, persons: int):
        super().__init__()
        self.network, self.weights = network, config.losses
        if isinstance(network, IdentityNetwork):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                self.head = CosineMarginHead(config.network.embedding, persons)

    def forward(self, image: Tensor, truth: dict[str, Any]) -> dict[str, Tensor]:
        """Images (N, 3, S, S) and their labels => weighted losses by name."""
        found = self.network(image)
        if isinstance(found, Tensor):
            return {"identity": self.head(found, truth["person"])}
        return {
            name: getattr(self.weights, name) * masked_mse(found[name], truth[name])
            for name in ("landmarks", "intensity", "pose")
        }


def measure_reader(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Pearson r per unit and their mean, landmark error (% of the side), yaw error (degrees)."""
    metrics = {}
    for unit in DETECTION_UNITS["synthetic"]:
        column = UNITS.index(unit)
        pair = torch.stack([found["intensity"][:, column], truth["intensity"][:, column]])
        metrics[f"r/{unit_name(unit)}"] = float(torch.corrcoef(pair)[0, 1])
    metrics["r"] = float(np.mean(list(metrics.values())))
    distance = (found["landmarks"] - truth["landmarks"]).norm(dim=-1)
    metrics["landmark_error_percent"] = float(100 * distance.mean())
    metrics["yaw_error_degrees"] = float(30 * (found["pose"] - truth["pose"])[:, 0].abs().mean())
    return metrics


def measure_identity(embedding: np.ndarray, person: np.ndarray) -> dict[str, float]:
    """Area under the ROC of cosine similarity for same person against different persons."""
    first, second = np.triu_indices(len(person), 1)
    cosine = (embedding @ embedding.T)[first, second]
    same = person[first] == person[second]
    ranks = cosine.argsort().argsort().astype(np.float64)
    positives, negatives = int(same.sum()), int((~same).sum())
    area = (ranks[same].sum() - positives * (positives - 1) / 2) / (positives * negatives)
    return {
        "auc": float(area),
        "cosine_same": float(cosine[same].mean()),
        "cosine_different": float(cosine[~same].mean()),
    }
