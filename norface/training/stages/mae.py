"""Stage `mae`: masked pre-training of the face encoder, for E_s and E_f (section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from norface.data.augment import AugmentConfig, draw_augmentation
from norface.data.folds import draw_held_out
from norface.data.handover import stack_samples
from norface.data.loader import Draw, GlobalBatchSampler, build_loader, every_sample_once
from norface.data.shards import ShardIndex
from norface.errors import ConfigError
from norface.images import make_grid, pack_pixels, resize_pixels, to_pixels, unpack_images
from norface.models.cost import measure_cost
from norface.models.encoder_files import save_encoder
from norface.models.mae import MaskedAutoencoder, MaskedAutoencoderConfig
from norface.models.vit import VitConfig
from norface.models.weights import load_encoder_weights
from norface.training.backends.base import Backend
from norface.training.decay import decays
from norface.training.seeding import sample_rng
from norface.training.stage import Stage
from norface.training.stages.mae_config import MaeConfig

__all__ = ["MaeConfig", "MaeStage"]

ENCODER_FILE = "encoder.safetensors"


def draw_order(*, seed: int, epoch: int, position: int, patches: int) -> Tensor:
    """A random order (P,), int64, of a sample's patches, keyed by its place in the run.

    The first of them are seen, the rest is hidden; so it serves any share of hidden patches.
    """
    return torch.from_numpy(sample_rng(seed, epoch, position, "mask").permutation(patches))


class MaskedFaces(Dataset[dict[str, Any]]):
    """Draw => {"key", "image": uint8 (3, S, S), "order": int64 (P,)}.

    Changes of the picture and the order of its patches are keyed by (seed, epoch, position).
    Without `augment` the picture is as it lies in the shards.
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        encoder: VitConfig,
        seed: int,
        augment: AugmentConfig | None = None,
    ):
        self.index, self.encoder, self.seed, self.augment = index, encoder, seed, augment

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        pixels = resize_pixels(self.index.read_pixels(draw.row), self.encoder.side)
        if self.augment is not None:
            rng = sample_rng(self.seed, draw.epoch, draw.position, "augment")
            pixels = draw_augmentation(self.augment, rng).apply(pixels)
        order = draw_order(
            seed=self.seed,
            epoch=draw.epoch,
            position=draw.position,
            patches=self.encoder.grid**2,
        )
        return {"key": self.index.key_of(draw.row), "image": pack_pixels(pixels), "order": order}


class InOrder(nn.Module):
    """images => what the auto-encoder predicts, with the first patches seen: to count its cost."""

    def __init__(self, config: MaskedAutoencoderConfig):
        super().__init__()
        self.model = MaskedAutoencoder(config)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.model.config.encoder.grid**2
        order = torch.arange(patches, device=images.device).expand(len(images), -1)
        return self.model(images, order)


class MaeStage(Stage):
    """Masked auto-encoder, its optimizer and its faces."""

    name = "mae"

    def __init__(self, config: MaeConfig, backend: Backend):
        self.config, self.backend = config, backend
        index = config.data.open()
        persons = index.persons
        if config.held_out >= len(persons):
            raise ConfigError(
                f"held_out: {config.held_out} of {len(persons)} persons leaves none to train on"
            )
        held_out = draw_held_out(persons, config.held_out, seed=config.seed)
        self.persons = sorted(set(persons) - set(held_out))
        self.index = index.select(subjects=self.persons) if config.held_out else index
        self.faces = MaskedFaces(
            self.index, encoder=config.model.encoder, seed=config.seed, augment=config.augment
        )
        shown = self.index
        if config.held_out:
            shown = index.select(subjects=held_out)
        self.shown_faces = MaskedFaces(shown, encoder=config.model.encoder, seed=config.seed)
        "Held-out faces, or with none held out those trained on, without changes."

        bare = self.build_network()
        if config.compile:
            bare.compile()
        self.model = backend.prepare(bare)
        self.bare: MaskedAutoencoder = backend.unwrap(self.model)  # type: ignore[assignment]
        self.optimizer = backend.prepare_optimizer(
            self.build_optimizer(), self.model, clip_norm=config.optimizer.clip_norm
        )
        batch = config.trainer.batch_per_rank * backend.world_size
        self.rate = config.optimizer.learning_rate
        if config.optimizer.scale_by_batch:
            self.rate *= batch / 256
        self.steps: int = math.ceil(config.trainer.images / batch)
        self.steps_per_epoch = len(self.index) // batch

    @property
    def whole(self) -> MaskedAutoencoder:
        """The network with all of its weights, see Backend.whole."""
        return self.backend.whole(self.model)  # type: ignore[return-value]

    def build_network(self) -> MaskedAutoencoder:
        """Fresh weights, the same on every rank, or an encoder that was trained before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            network = MaskedAutoencoder(self.config.model)
        if self.config.encoder_weights is not None:
            report = load_encoder_weights(
                network.encoder, self.config.encoder_weights, key="model.encoder"
            )
            if report.card is not None:
                self.persons = sorted({*self.persons, *report.card.persons})
            self.notes += (str(report),)
        return network

    def build_optimizer(self) -> torch.optim.AdamW:
        """Decay for matrices and kernels only."""
        settings = self.config.optimizer
        trained = [(n, p) for n, p in self.bare.named_parameters() if p.requires_grad]
        decayed = [p for n, p in trained if decays(n, p)]
        others = [p for n, p in trained if not decays(n, p)]
        return torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=settings.betas,
        )

    def batches(self, start_step: int) -> Iterator[dict[str, Any]]:
        sampler = GlobalBatchSampler(
            len(self.index),
            batch_per_rank=self.config.trainer.batch_per_rank,
            rank=self.backend.rank,
            world_size=self.backend.world_size,
            seed=self.config.seed,
            start_step=start_step,
            mixture=self.config.data.mix(self.index),
        )
        return iter(build_loader(self.faces, sampler, workers=self.config.data.workers))

    def train_batch(self, batch: dict[str, Any], step: int) -> dict[str, Tensor]:
        rate = self.rate * self.config.optimizer.schedule.factor(step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        loss = self.measure(self.model, batch)
        norm = self.optimizer.descend(loss)
        shown = {"loss": loss.detach(), "lr": torch.tensor(rate)}
        return shown if norm is None else {**shown, "grad_norm": norm}

    def measure(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """Loss of a batch: the mean over its hidden patches, of which all pictures have as many."""
        device = self.backend.device
        images = unpack_images(batch["image"], device)
        order = batch["order"].to(device, non_blocking=True)
        with self.backend.autocast():
            predicted = model(images, order)
        return self.bare.loss(predicted, images, order)

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """`loss` on faces of held-out persons, under the same masks every time; {} without them."""
        if not self.config.held_out:
            return {}
        count = min(self.config.measured, len(self.shown_faces))
        rows = np.linspace(0, len(self.shown_faces) - 1, count).astype(int)
        mine = rows[every_sample_once(count, self.backend.rank, self.backend.world_size)]
        size = self.config.trainer.batch_per_rank
        network = self.whole.eval()
        totals = torch.zeros(2, dtype=torch.float64, device=self.backend.device)
        for start in range(0, len(mine), size):
            batch = self.read_shown(mine[start : start + size])
            here = len(batch["key"])
            totals += torch.tensor([float(self.measure(network, batch)) * here, here]).to(totals)
        total, seen = self.backend.all_reduce_sum(totals).tolist()
        return {"loss": total / seen}

    def read_shown(self, rows: np.ndarray) -> dict[str, Any]:
        """Some of `shown_faces` as a batch."""
        return stack_samples([self.shown_faces[Draw(int(row), 0, int(row))] for row in rows])

    @torch.no_grad()
    def sample_grid(self) -> np.ndarray:
        """Rows of original | masked | reconstructed, the same faces and masks every time."""
        rng = sample_rng(self.config.seed, 0, 0, "sample_grid")
        count = min(self.config.sample_rows, len(self.shown_faces))
        batch = self.read_shown(rng.permutation(len(self.shown_faces))[:count])
        images = unpack_images(batch["image"], self.backend.device)
        masked, drawn = self.whole.eval().show(images, batch["order"].to(self.backend.device))
        columns = [to_pixels(part) for part in (images, masked, drawn)]
        return make_grid(list(zip(*columns, strict=True)))

    def count_operations(self) -> float:
        side = self.config.model.encoder.side
        with torch.device("meta"):
            whole = measure_cost("mae", InOrder(self.config.model), (3, side, side))
        return whole.forward + whole.backward

    def state_dict(self) -> dict[str, Any]:
        return {
            "models": {"mae": self.whole.state_dict()},
            "optimizers": {"mae": self.optimizer.state_dict()},
            "extra": {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.backend.load_weights(self.model, state["models"]["mae"])
        self.optimizer.load_state_dict(state["optimizers"]["mae"])

    def export(self, folder: Path) -> None:
        corpora = ", ".join(sorted({corpus for corpus, _ in self.persons}))
        save_encoder(
            self.whole.encoder,
            folder / ENCODER_FILE,
            source=f"norface train mae, {self.config.name}, on {corpora}",
            persons=self.persons,
            images=self.config.trainer.images,
        )
