"""Stage `critic`: the small judges of the synthetic world, trained from labelled shards.

A reader learns landmarks, action-unit intensities and pose from exact labels; an identity network
learns to tell persons apart. Held-out persons show how good they are.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from norface.data.folds import draw_held_out
from norface.data.labelled import LabelledFaces, augment_batch
from norface.data.labels import DETECTION_UNITS, unit_name
from norface.data.loader import Draw, GlobalBatchSampler, build_loader
from norface.data.mixture import Mixture
from norface.data.shards import Person, ShardIndex
from norface.errors import ConfigError
from norface.evaluation.normalization import intensity_correlation
from norface.files import write_tensors
from norface.images import unpack_images
from norface.models.face_networks import (
    UNITS,
    FaceReader,
    IdentityNetwork,
    build_face_network,
    load_face_network,
)
from norface.synthetic.sampling import CORPUS
from norface.synthetic.version import ANY_RENDERER, RENDERER_VERSION, renderer_of
from norface.training.backends.base import Backend
from norface.training.stage import Stage, StageConfig
from norface.training.stages.critic_config import CriticConfig

__all__ = ["CriticConfig", "CriticStage"]

RARELY = 0.02
"Least spread of an action unit, in fifths, that its errors are measured in."


class CosineMarginHead(nn.Module):
    """Large-margin softmax over training persons (CosFace, Wang et al. 2018); not exported.

    embedding (N, E) unit length, person (N,) int64 => mean cross-entropy of
    s (cos - m [own class]).
    """

    def __init__(self, embedding: int, persons: int, *, scale: float = 24.0, margin: float = 0.2):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(persons, embedding) * 0.05)
        self.scale, self.margin = scale, margin

    def forward(self, embedding: Tensor, person: Tensor) -> Tensor:
        cosine = embedding @ F.normalize(self.weight, dim=1).T
        own = F.one_hot(person, cosine.shape[1]).to(cosine.dtype)
        return F.cross_entropy(self.scale * (cosine - self.margin * own), person)


def masked_mse(found: Tensor, truth: Tensor) -> Tensor:
    """Mean of squares over the entries of `truth` that are not NaN; 0 when none is."""
    known = ~truth.isnan()
    error = torch.where(known, found - truth.nan_to_num(), torch.zeros_like(found))
    return error.square().sum() / known.sum().clamp(min=1)


class CriticStage(Stage):
    """Trains one FaceReader or IdentityNetwork; objective triplet has its own subclass."""

    name = "critic"

    def __init__(self, config: CriticConfig, backend: Backend):
        self.config, self.backend = config, backend
        index = config.data.open()
        self.renderer = name_renderer(index)
        self.open_faces(index)
        self.network = self.build_network()
        self.model = backend.prepare(self.build_judged().to(backend.device))
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.optimizer = backend.prepare_optimizer(optimizer, self.model)
        batch = config.trainer.batch_per_rank * backend.world_size
        self.steps = math.ceil(config.trainer.images / batch)
        self.steps_per_epoch = len(self.train_faces) // batch

    @classmethod
    def choose(cls, config: StageConfig) -> type[Stage]:
        from norface.training.stages.critic_triplet import TripletStage

        return TripletStage if getattr(config, "objective", None) == "triplet" else cls

    @property
    def whole_network(self) -> nn.Module:
        """What is exported, with all of its weights, see Backend.whole."""
        return self.backend.whole(self.model).network  # type: ignore[return-value]

    def open_faces(self, index: ShardIndex) -> None:
        """Faces to train on, and those of the persons held out. Raises ConfigError."""
        config = self.config
        persons = hold_out(index, config.held_out)
        self.train_faces = LabelledFaces(
            index.select(subjects=persons[0]),
            seed=config.seed,
            changes=config.augment,
            cache=config.cache,
        )
        if config.network.kind == "reader":
            refuse_unlabelled(self.train_faces)
        self.test_faces = LabelledFaces(index.select(subjects=persons[1]), cache=config.cache)

    def build_judged(self) -> nn.Module:
        """The network with its losses."""
        with warnings.catch_warnings():
            # Of units that nobody has a label of.
            warnings.simplefilter("ignore", RuntimeWarning)
            spread = torch.from_numpy(np.nanstd(self.train_faces.intensity, axis=0)).nan_to_num()
        return JudgedFaces(
            self.network,
            self.config,
            persons=self.train_faces.persons,
            spread=spread.clamp(min=RARELY),
        )

    def build_network(self) -> FaceReader | IdentityNetwork:
        """Fresh weights, or those of `start`. Raises WeightsError, ConfigError."""
        config, start = self.config.network, self.config.start
        network = build_face_network(config)
        if start is not None:
            before = load_face_network(start, to_judge=False)
            if before.config.model_dump(exclude={"seed"}) != config.model_dump(exclude={"seed"}):
                raise ConfigError(
                    f"start: {start} holds a network of other sizes than `network`; set it to"
                    f" {before.config.model_dump_json()}"
                )
            network.load_state_dict(before.state_dict())
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def batches(self, start_step: int) -> Iterator[dict[str, Any]]:
        sampler = GlobalBatchSampler(
            len(self.train_faces),
            batch_per_rank=self.config.trainer.batch_per_rank,
            rank=self.backend.rank,
            world_size=self.backend.world_size,
            seed=self.config.seed,
            start_step=start_step,
            mixture=self.mix(),
        )
        return iter(build_loader(self.train_faces, sampler, workers=self.config.data.workers))

    def mix(self) -> Mixture | None:
        """How often each folder of faces is read, where the config says so."""
        return self.config.data.mix(self.train_faces.index)

    def train_batch(self, batch: dict[str, Any], step: int) -> dict[str, Tensor]:
        factor = self.config.schedule.factor(step, self.steps)
        rate = self.config.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        batch = self.arrange(
            {
                name: value.to(self.backend.device) if isinstance(value, Tensor) else value
                for name, value in batch.items()
            }
        )
        image, batch["landmarks"] = augment_batch(batch)
        image = image.contiguous(memory_format=torch.channels_last)
        if self.config.augment.attack:
            image = self.attack(image, batch)
        with self.backend.autocast():
            terms = self.model(image, batch)
        loss = torch.stack(list(terms.values())).sum()
        self.optimizer.descend(loss)
        shown = {name: term.detach() for name, term in terms.items()}
        return {**shown, "loss": loss.detach(), "lr": torch.tensor(rate)}

    def arrange(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The loader's batch => one picture a row, as `augment_batch` and the losses take it."""
        return batch

    def attack(self, image: Tensor, batch: dict[str, Any]) -> Tensor:
        """Images a step up the loss: each its share of `augment.attack` along the gradient."""
        bare = self.backend.unwrap(self.model)
        image = image.requires_grad_(True)
        with self.backend.autocast():
            loss = torch.stack(list(bare(image, batch).values())).sum()
        (slope,) = torch.autograd.grad(loss, image)
        length = slope.flatten(1).norm(dim=1).clamp(min=1e-12)
        far = self.config.augment.attack * batch["change"][:, 6] / length
        return (image + far.view(-1, 1, 1, 1) * slope).detach()

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """On held-out persons: r per unit, landmark and yaw error; of an identity network, AUC."""
        network = self.whole_network.eval()
        outputs, truths = [], []
        rows = list(range(len(self.test_faces.index)))
        for start in range(0, len(rows), 128):
            samples = [self.test_faces[Draw(row, 0, row)] for row in rows[start : start + 128]]
            pixels = torch.stack([sample["image"] for sample in samples])
            images = unpack_images(pixels, self.backend.device, layout=torch.channels_last)
            found = network(images)
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
        model = self.backend.whole(self.model)
        return {
            "models": {"critic": model.state_dict()},
            "optimizers": {"critic": self.optimizer.state_dict()},
            "extra": {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.backend.load_weights(self.model, state["models"]["critic"])
        self.optimizer.load_state_dict(state["optimizers"]["critic"])

    def export(self, folder: Path) -> None:
        tensors = {
            name: value.half() if value.is_floating_point() else value
            for name, value in self.whole_network.state_dict().items()
        }
        settings = json.dumps(self.config.network.model_dump(mode="json"))
        about = {"network": settings, "renderer": self.renderer}
        write_tensors(folder / "critic.safetensors", tensors, about)


def name_renderer(index: ShardIndex) -> str:
    """What a network trained on these faces says of their renderer: a version, or `any`."""
    version = renderer_of(index.folders)
    if version is None and CORPUS not in {corpus for corpus, _ in index.persons}:
        return ANY_RENDERER
    return str(RENDERER_VERSION if version is None else version)


def refuse_unlabelled(faces: LabelledFaces) -> None:
    """Raises ConfigError where a reader has nothing to learn from: its loss would be 0."""
    first = faces.read(0)
    if all(np.isnan(found).all() for found in (faces.intensity, first.landmarks, first.pose)):
        raise ConfigError(
            f"data.shards: {faces.index.name} has no intensities of action units, and"
            f" {faces.index.key_of(0)} no landmarks and no pose; a reader learns from these: choose"
            " shards that have them, or network.kind=identity"
        )


def hold_out(index: ShardIndex, count: int) -> tuple[list[Person], list[Person]]:
    """Persons to train on, and `count` drawn from all corpora, the same for every seed, so that
    nobody is among them whom a training that is gone on with (`start`) saw.

    Raises ConfigError where too few are left.
    """
    persons = set(index.persons)
    if len(persons) <= count + 1:
        raise ConfigError(
            f"held_out: {count} of {len(persons)} persons leaves too few to train on;"
            " write more persons or hold out fewer"
        )
    held_out = draw_held_out(persons, count, seed=0)
    return sorted(persons - set(held_out)), held_out


class JudgedFaces(nn.Module):
    """Network and losses behind one forward pass, as DistributedDataParallel wants it."""

    spread: Tensor

    def __init__(
        self,
        network: FaceReader | IdentityNetwork,
        config: CriticConfig,
        *,
        persons: int,
        spread: Tensor,
    ):
        super().__init__()
        self.network, self.weights = network, config.losses
        self.register_buffer("spread", spread, persistent=False)
        if isinstance(network, IdentityNetwork):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                self.head = CosineMarginHead(config.network.embedding, persons)

    def forward(self, image: Tensor, truth: dict[str, Any]) -> dict[str, Tensor]:
        """Images (N, 3, S, S) and their labels => weighted losses by name."""
        found = self.network(image)
        if isinstance(found, Tensor):
            return {"identity": self.head(found, truth["person"])}
        errors = {
            "landmarks": masked_mse(found["landmarks"], truth["landmarks"]),
            "intensity": masked_mse(
                found["intensity"] / self.spread, truth["intensity"] / self.spread
            ),
            "pose": masked_mse(found["pose"], truth["pose"]),
        }
        return {name: getattr(self.weights, name) * error for name, error in errors.items()}


def measure_reader(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Pearson r per unit and their mean, landmark error (% of the side), yaw error (degrees).

    What no face has a label of (NaN), or the same one, is left out.
    """
    labels = truth["intensity"].numpy()
    rows = intensity_correlation(labels, found["intensity"].numpy())
    metrics = {}
    for unit in DETECTION_UNITS["synthetic"]:
        known = labels[:, UNITS.index(unit)]
        if len(np.unique(known[~np.isnan(known)])) > 1:
            metrics[f"r/{unit_name(unit)}"] = float(rows[UNITS.index(unit)])
    if metrics:
        metrics["r"] = float(np.mean(list(metrics.values())))
    errors = {
        "landmark_error_percent": 100 * (found["landmarks"] - truth["landmarks"]).norm(dim=-1),
        "yaw_error_degrees": 30 * (found["pose"] - truth["pose"])[:, 0].abs(),
    }
    there = {name: each for name, each in errors.items() if not bool(each.isnan().all())}
    return metrics | {name: float(each.nanmean()) for name, each in there.items()}


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
