"""Stage `critic` with objective triplet: an embedding in which like expressions lie together.

The loss is that of FECNet (Vemulapalli and Agarwala, CVPR 2019): of three faces, the two that are
alike must be nearer to each other than either is to the odd one, by a margin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from norface.data.labelled import LabelledFaces
from norface.data.loader import Draw
from norface.data.mixture import Mixture
from norface.data.shards import ShardIndex
from norface.data.triplets import Judged, Mined, TripletFaces, read_triplets
from norface.errors import ConfigError
from norface.images import unpack_images
from norface.models.expression_embedding import (
    ExpressionEmbedding,
    build_embedding,
    load_embedding,
    save_embedding,
)
from norface.training.stages.critic import CriticStage, hold_out, measure_identity

MOST = 512
"Triplets that an evaluation looks at."


def triplet_losses(embedding: Tensor, margin: Tensor) -> Tensor:
    """embedding (N, 3, E): first, second, odd; margin (N,) => (N,), >= 0.

    max(0, |f - s|^2 - |f - o|^2 + m) + max(0, |f - s|^2 - |s - o|^2 + m).
    """
    near, others = triplet_distances(embedding)
    return (near[:, None] - others + margin[:, None]).relu().sum(1)


def triplet_distances(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """embedding (N, 3, E) => squared distances first to second (N,), and of both to odd (N, 2)."""
    first, second, odd = embedding.unbind(1)
    near = (first - second).square().sum(1)
    others = [(first - odd).square().sum(1), (second - odd).square().sum(1)]
    return near, torch.stack(others, 1)


class TripletLoss(nn.Module):
    """Network and loss behind one forward pass, as DistributedDataParallel wants it."""

    def __init__(self, network: ExpressionEmbedding):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, truth: dict[str, Any]) -> dict[str, Tensor]:
        """Images (3 N, 3, S, S), three in a row a triplet => {"triplet": mean loss}."""
        embedding = self.network(image).unflatten(0, (-1, 3))
        return {"triplet": triplet_losses(embedding, truth["margin"]).mean()}


class TripletStage(CriticStage):
    """Trains one ExpressionEmbedding. A batch counts triplets, three pictures each."""

    network: ExpressionEmbedding  # type: ignore[assignment]
    train_faces: TripletFaces  # type: ignore[assignment]
    test_faces: TripletFaces  # type: ignore[assignment]

    def open_faces(self, index: ShardIndex) -> None:
        """Raises ConfigError, CorpusError."""
        config, chosen = self.config, self.config.triplets
        if config.data.weights is not None:
            raise ConfigError(
                "data.weights: objective=triplet draws triplets, not faces of a folder; set it to"
                " null"
            )
        if chosen.table is None:
            parts = [index.select(subjects=persons) for persons in hold_out(index, config.held_out)]
            train, test = (self.wrap(part, moved=n == 0) for n, part in enumerate(parts))
            self.train_faces, self.test_faces = (
                TripletFaces(faces, self.mine(faces)) for faces in (train, test)
            )
            return
        found = read_triplets(
            chosen.table,
            index,
            agreement=chosen.agreement,
            margin=chosen.margin,
            one_class_margin=chosen.one_class_margin,
        )
        kept = found.pop("test", [])
        rest = [triplet for part in found.values() for triplet in part]
        if not kept:
            kept, rest = rest[-config.held_out :], rest[: -config.held_out]
        if not rest:
            raise ConfigError(
                f"held_out: {config.held_out} of {len(kept)} triplets leaves none to train on; hold"
                " out fewer"
            )
        self.train_faces = TripletFaces(self.wrap(index, moved=True), Judged(rest))
        self.test_faces = TripletFaces(self.wrap(index, moved=False), Judged(kept))

    def wrap(self, index: ShardIndex, *, moved: bool) -> LabelledFaces:
        """The faces of an index; `moved`: at random, for training."""
        config = self.config
        # Whole corpora of photographs are not kept in memory, nor decoded before the first step.
        cache = config.cache and config.triplets.table is None
        changes = config.augment if moved else None
        return LabelledFaces(index, seed=config.seed, changes=changes, cache=cache)

    def mine(self, faces: LabelledFaces) -> Mined:
        """Triplets from the intensities of these faces."""
        chosen = self.config.triplets
        return Mined(
            faces.intensity,
            faces.person,
            seed=self.config.seed,
            candidates=chosen.candidates,
            margin=chosen.margin,
        )

    def mix(self) -> Mixture | None:
        return None

    def build_network(self) -> ExpressionEmbedding:  # type: ignore[override]
        """Fresh weights, or those of `start`. Raises WeightsError, ConfigError."""
        sizes, start = self.config.embedding, self.config.start
        network = build_embedding(sizes)
        if start is not None:
            before, found = load_embedding(start)
            if found.model_dump(exclude={"seed"}) != sizes.model_dump(exclude={"seed"}):
                raise ConfigError(
                    f"start: {start} holds an embedding of other sizes than `embedding`; set it to"
                    f" {found.model_dump_json()}"
                )
            network.load_state_dict(before.state_dict())
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def build_judged(self) -> nn.Module:
        return TripletLoss(self.network)

    def arrange(self, batch: dict[str, Any]) -> dict[str, Any]:
        flat = {name: batch[name].flatten(0, 1) for name in ("image", "change", "noise_seed")}
        none = flat["change"].new_zeros(len(flat["image"]), 0, 2)
        return {**flat, "landmarks": none, "margin": batch["margin"]}

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """Share of held-out triplets told right; of mined ones, how well persons are told apart by
        the embedding too (area under the ROC; 0.5 = not at all, as it should be)."""
        network = self.whole_network.eval()
        count = min(len(self.test_faces), MOST)
        parts, rows = [], []
        for start in range(0, count, 32):
            draws = [Draw(row, 0, row) for row in range(start, min(start + 32, count))]
            samples = [self.test_faces[draw] for draw in draws]
            pixels = torch.cat([sample["image"] for sample in samples])
            images = unpack_images(pixels, self.backend.device, layout=torch.channels_last)
            parts.append(network(images).cpu())
            rows.append(torch.cat([sample["rows"] for sample in samples]))
        found = torch.cat(parts)
        near, others = triplet_distances(found.unflatten(0, (-1, 3)))
        metrics = {"triplet_accuracy": float((near[:, None] < others).all(1).float().mean())}
        if self.config.triplets.table is None:
            once = {int(row): place for place, row in enumerate(torch.cat(rows))}
            person = self.test_faces.faces.person[list(once)]
            found = found[list(once.values())]
            metrics["person_auc"] = measure_identity(found.numpy(), person)["auc"]
        return metrics

    def export(self, folder: Path) -> None:
        network: ExpressionEmbedding = self.whole_network  # type: ignore[assignment]
        save_embedding(network, self.config.embedding, folder / "critic.safetensors")
