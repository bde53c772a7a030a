"""Stage `nor`: trains F_nor against its discriminator and its judges (section 3.1 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from norface.critics.base import KINDS, Critic, build_critics
from norface.data.normalized import TARGET_NAME, read_set
from norface.data.pairing import PairDataset
from norface.data.shards import ShardIndex
from norface.data.streaming import build_pair_loader
from norface.images import (
    make_grid,
    read_photo,
    resize_pixels,
    to_image,
    to_pixels,
    unpack_images,
)
from norface.losses.adversarial import adversarial_loss, discriminator_loss
from norface.losses.balancing import Balancer
from norface.losses.judging import Judging, gradient_shares
from norface.losses.weighted import weighted_sum
from norface.models.discriminator import Discriminator, save_discriminator
from norface.models.face_networks import UNITS
from norface.models.normalizer import save_generator
from norface.synthetic.version import check_drawn
from norface.training.backends.base import Backend
from norface.training.backends.refusals import refuse_split_bf16
from norface.training.ema import MovingAverage
from norface.training.seeding import sample_normal, sample_rng
from norface.training.stage import Stage
from norface.training.stages.cla_folds import choose_fold
from norface.training.stages.nor_config import NorConfig
from norface.training.stages.nor_cost import count_operations, describe_cost
from norface.training.stages.nor_networks import (
    DISCRIMINATOR_FILE,
    GENERATOR_FILE,
    build_networks,
)

__all__ = ["NorConfig", "NorStage"]


FEW_TARGETS = 64
"Up to so many candidate targets, what the critics say of them is read once and kept."


class NorStage(Stage):
    """Generator, discriminator, their optimizers, the averaged generator and the frozen critics."""

    name = "nor"

    def __init__(
        self, config: NorConfig, backend: Backend, critics: Mapping[str, Critic] | None = None
    ):
        """critics: to judge by in the place of the config's, on the backend's device."""
        self.config, self.backend = config, backend
        refuse_split_bf16(config.backend, backend)
        self.index = config.data.open()
        choices = (getattr(config.critics, kind) for kind in KINDS)
        if any(choice is not None and choice.source == "synthetic" for choice in choices):
            check_drawn(self.index.folders)
        if config.fold is not None:
            self.index = self.index.select(choose_fold(config.fold, self.index).train)
        self.pool = (
            config.target_pool.select(self.index, config.seed) if config.target_pool else None
        )
        self.pairs = PairDataset(
            self.index,
            target_pool=self.pool,
            self_pair=config.self_pair,
            clip_pair=config.clip_pair,
            seed=config.seed,
            side=config.normalizer.side,
            flip=config.flip,
            mixture=config.data.mix(self.index),
            companions=config.discriminator.condition == "pair",
        )
        if critics is None:
            critics = build_critics(config.critics, backend.device, config.losses.judges)
        self.judging = Judging(critics, config.losses)
        self.balancer = Balancer(
            config.losses, lambda sizes: backend.all_reduce_sum(sizes) / backend.world_size
        )
        batch = config.trainer.batch_per_rank * backend.world_size
        self.total_steps: int = math.ceil(config.trainer.images / batch)
        self.steps_per_epoch = len(self.index) // batch
        self.persons = set(self.index.persons)

        self.known = self.read_pool()
        self.has_one_target = self.pool is not None and len(self.pool) == 1 and not config.flip

        generator, discriminator, notes, persons = build_networks(config)
        self.notes += notes
        self.persons |= persons
        if backend.is_main:
            self.notes += (describe_cost(generator, discriminator),)
        self.average = MovingAverage(generator.to(backend.device), config.optimizer.ema_decay)
        if config.compile:
            generator.compile()
            discriminator.compile()
        self.generator = backend.prepare(generator)
        self.discriminator = backend.prepare(discriminator)
        rate = config.optimizer.learning_rate
        self.rates = {
            "generator": rate,
            "discriminator": config.optimizer.discriminator_learning_rate or rate,
        }
        self.networks = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimizers = {
            name: backend.prepare_optimizer(
                torch.optim.Adam(
                    network.parameters(), self.rates[name], config.optimizer.betas, fused=True
                ),
                network,
                clip_norm=config.optimizer.clip_norm,
            )
            for name, network in self.networks.items()
        }

        if config.samples.truth is not None:
            # What is wrong with the grids' pictures is told now, not at the first grid.
            self.read_samples()

    def read_pool(self) -> dict[str, Any] | None:
        """What the critics say of the candidate targets, read once where they are few."""
        pool, config = self.pool, self.config
        if pool is None or len(pool) > FEW_TARGETS or config.flip:
            return None
        side = config.normalizer.side
        faces = [resize_pixels(pool.read_pixels(row), side) for row in range(len(pool))]
        return self.judging.read_targets(self.to_device(torch.stack(list(map(to_image, faces)))))

    def know_targets(self, keys: list[str]) -> dict[str, Any] | None:
        """The features of these targets, where `read_pool` read them."""
        if self.known is None or self.pool is None:
            return None
        rows = torch.from_numpy(self.pool.rows_of(keys)).to(self.backend.device)
        return {
            kind: [one[rows] for one in found] if isinstance(found, list) else found[rows]
            for kind, found in self.known.items()
        }

    def batches(self, start_step: int) -> Iterator[dict[str, Any]]:
        loader = build_pair_loader(
            self.config.data,
            self.pairs,
            batch_per_rank=self.config.trainer.batch_per_rank,
            rank=self.backend.rank,
            world_size=self.backend.world_size,
            start_step=start_step,
        )
        return iter(loader)

    def train_batch(self, batch: dict[str, Any], step: int) -> dict[str, Tensor]:
        """One step of the discriminator, then one of the generator, on one generated batch."""
        is_log_step = (step + 1) % self.config.trainer.log_every_steps == 0
        original, target = self.to_device(batch["original"]), self.to_device(batch["target"])
        is_self = batch["is_self"].to(self.backend.device)
        # Asked for while the ranks still stand at the same place, so that none waits.
        pairs = self.backend.all_reduce_sum(is_self.sum().float())
        factor = self.config.optimizer.schedule.factor(step, self.total_steps)
        shown = {"lr": torch.tensor(self.rates["generator"] * factor)}

        self.generator.train()
        with self.backend.autocast():
            normalized = self.generator(
                original, target, *self.draw_noise(batch), one_target=self.has_one_target
            )
        losses: dict[str, Tensor] = {}
        if self.config.losses.adv is not None and step >= self.config.adversarial_start_step:
            if "companion" in batch:
                real = self.to_device(batch["companion"])
            else:
                # Where the original is of the target's clip, it shows the target with an
                # expression: real too, and the only real picture not at rest when targets are.
                real = torch.where(is_self[:, None, None, None], original, target)
            shown["discriminator"] = self.train_discriminator(
                real, normalized.detach(), target, factor
            )
            losses["adv"] = self.ask_discriminator(normalized, target)
        losses |= self.judge(
            original, target, normalized, is_self, pairs=pairs,
            known=self.know_targets(batch["target_key"]), measure_all=is_log_step,
        )  # fmt: skip
        weights = self.balancer.update(losses, normalized)
        if is_log_step:
            shares = gradient_shares(losses, weights, normalized)
            shown |= {f"grad_share/{term}": share for term, share in shares.items()}
            shown |= self.balancer.shown()
        loss = weighted_sum(losses, weights)
        shown |= self.descend("generator", loss, factor)
        self.average.update(self.backend.whole(self.generator), step)
        return {"loss": loss.detach()} | {n: v.detach() for n, v in (losses | shown).items()}

    def draw_noise(self, batch: dict[str, Any]) -> list[Tensor]:
        """What is added to the intensities (B, 17), keyed by sample; nothing where it is 0."""
        if self.config.intensity_noise == 0:
            return []
        noise = self.config.intensity_noise * sample_normal(
            self.config.seed, batch["epoch"], batch["position"], "intensity", [len(UNITS)]
        )
        return [(noise * batch["is_self"][:, None]).to(self.backend.device)]

    def judge(
        self, original: Tensor, target: Tensor, normalized: Tensor, is_self: Tensor,
        *, pairs: Tensor, known: dict[str, Any] | None, measure_all: bool,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Eq. 5-10: the terms trained on, and with `measure_all` those of weight 0 too. `pairs`:
        how many are self pairs in the global batch."""
        weights = self.config.losses
        terms = weights.present if measure_all else weights.trained
        terms = [term for term in terms if self.judging.can_measure(term)]
        with self.backend.autocast():
            return self.judging.measure(
                normalized,
                original,
                is_self,
                self.judging.read_truth(original, target, terms, known),
                terms=terms,
                global_count=pairs,
                world_size=self.backend.world_size,
            )

    def train_discriminator(
        self, real: Tensor, fake: Tensor, target: Tensor, factor: float
    ) -> Tensor:
        """One step on real faces and fakes, in one forward pass; returns its loss."""
        self.discriminator.train()
        with self.backend.autocast():
            scores = self.discriminator(torch.cat([real, fake]), torch.cat([target, target]))
        real_scores, fake_scores = scores.chunk(2)
        loss = discriminator_loss(real_scores, fake_scores)
        self.descend("discriminator", loss, factor)
        return loss.detach()

    def ask_discriminator(self, normalized: Tensor, target: Tensor) -> Tensor:
        """Eq. 4. The discriminator is frozen, in evaluation mode, and called past its wrapper.

        Called through it, or with gradients, its wrapper would average what no step uses.
        """
        judge = self.backend.unwrap(self.discriminator).eval().requires_grad_(False)
        with self.backend.autocast():
            loss = adversarial_loss(judge(normalized, target))
        # The graph is built: what backward must not fill was decided by the flags while building.
        judge.requires_grad_(True)
        return loss

    def descend(self, name: str, loss: Tensor, factor: float) -> dict[str, Tensor]:
        """One step of one network at its rate; the gradient's norm where it is clipped."""
        optimizer = self.optimizers[name]
        for group in optimizer.param_groups:
            group["lr"] = self.rates[name] * factor
        norm = optimizer.descend(loss)
        return {} if norm is None else {"grad_norm": norm}

    def to_device(self, pixels: Tensor) -> Tensor:
        """A batch's pictures as images on the backend's device, in the configured memory format."""
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return unpack_images(pixels, self.backend.device, layout=layout)

    def describe_batch(self, batch: dict[str, Any]) -> list[str]:
        """`KEY on TARGET` of each pair: either picture may be to blame."""
        return [f"{key} on {target}" for key, target in
                zip(batch["key"], batch["target_key"], strict=True)]  # fmt: skip

    def count_operations(self) -> float:
        return count_operations(self.config)

    def state_dict(self) -> dict[str, Any]:
        networks = {name: self.backend.whole(network) for name, network in self.networks.items()}
        networks["average"] = self.average.model
        return {
            "models": {name: network.state_dict() for name, network in networks.items()},
            "optimizers": {name: opt.state_dict() for name, opt in self.optimizers.items()},
            "extra": self.balancer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.balancer.load_state_dict(state["extra"])
        for name, network in self.networks.items():
            self.backend.load_weights(network, state["models"][name])
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        self.average.model.load_state_dict(state["models"]["average"])

    @torch.no_grad()
    def sample_grid(self) -> np.ndarray:
        """Rows of original | target | normalized by the averaged generator [| truth]."""
        columns = self.read_samples()
        faces = [self.to_device(torch.stack(list(map(to_image, face)))) for face in columns[:2]]
        normalized = list(to_pixels(self.average.model(*faces)))
        return make_grid(list(zip(*columns[:2], normalized, *columns[2:], strict=True)))

    def read_samples(self) -> list[list[np.ndarray]]:
        """Columns of pixels: originals, targets and, where there is a truth set, truths."""
        settings, side = self.config.samples, self.config.normalizer.side
        rng = sample_rng(self.config.seed, 0, 0, "sample_grid")

        def read(index: ShardIndex, rows: np.ndarray) -> list[np.ndarray]:
            return [resize_pixels(index.read_pixels(int(row)), side) for row in rows]

        if settings.truth is None:
            index, pool = self.index, self.pool or self.index
            rows = rng.integers(len(index), size=settings.rows)
            return [read(index, rows), read(pool, rng.integers(len(pool), size=settings.rows))]
        truth = ShardIndex.open(settings.truth)
        index = self.index if settings.originals is None else ShardIndex.open(settings.originals)
        rows = rng.integers(len(truth), size=settings.rows)
        originals = index.rows_of([truth.key_of(int(row)) for row in rows])
        read_set(settings.truth)
        target = resize_pixels(read_photo(settings.truth / TARGET_NAME), side)
        return [read(index, originals), [target] * settings.rows, read(truth, rows)]

    def export(self, folder: Path) -> None:
        save_generator(
            self.average.model,
            folder / GENERATOR_FILE,
            persons=sorted(self.persons),
            images=self.config.trainer.images,
        )
        judge: Discriminator = self.backend.whole(self.discriminator)  # type: ignore[assignment]
        save_discriminator(judge, folder / DISCRIMINATOR_FILE)
