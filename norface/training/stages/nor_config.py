"""Settings of `norface train nor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from norface.config import Config, Misfit
from norface.critics.base import CriticsConfig
from norface.data.fold_choice import FoldChoice
from norface.data.loader import DataConfig
from norface.data.provenance import describe_data, list_datasets
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, CorpusError
from norface.losses.weighted import LossWeights
from norface.models.discriminator import DiscriminatorConfig
from norface.models.normalizer import NormalizerConfig
from norface.models.reader_encoder import ReaderEncoderConfig
from norface.targets import check_row, leave_out_active
from norface.training.schedule import Beta, ScheduleConfig
from norface.training.seeding import sample_rng
from norface.training.stage import StageConfig

LOOKED_AT = 64
"Up to so many candidate targets without an active label are read as pictures too."


class TargetPool(Config):
    """Which faces of the shards can be targets. Exactly one of the first three is set."""

    persons: int | None = Field(None, gt=0)
    "So many persons, chosen by the seed."
    subjects: list[str] | None = Field(None, min_length=1)
    "These persons, each written corpus/subject."
    keys: list[str] | None = Field(None, min_length=1)
    "These pictures."
    pictures_per_person: int | None = Field(None, gt=0)
    "The first pictures of each person only; null = all."
    check_target: bool = True
    """Refuse `keys` that are not at rest, and leave such faces of persons out, by labels; where up
    to 64 candidates are left, photographs are looked at too (norface.targets)."""

    @model_validator(mode="after")
    def _check_choice(self) -> TargetPool:
        chosen = [self.persons, self.subjects, self.keys]
        if sum(choice is not None for choice in chosen) != 1:
            raise Misfit("set exactly one of '.persons', '.subjects' and '.keys'")
        return self

    def select(self, index: ShardIndex, seed: int) -> ShardIndex:
        """The candidate targets among the samples of `index`. Raises CorpusError, ConfigError."""
        if self.keys is not None:
            where = np.zeros(len(index), bool)
            try:
                where[index.rows_of(self.keys)] = True
            except CorpusError as error:
                raise CorpusError(
                    f"target_pool.keys: {error}; name pictures of data.shards, and under `fold` of"
                    " its train subjects"
                ) from None
            return self._look_at(index.select(where=where))
        persons = index.persons
        if self.subjects is not None:
            for subject in self.subjects:
                if subject.count("/") != 1:
                    raise ConfigError(
                        f"target_pool.subjects: found '{subject}'; expected corpus/subject"
                    )
            persons = [(part[0], part[2]) for part in (s.partition("/") for s in self.subjects)]
        elif self.persons is not None:
            if self.persons > len(persons):
                raise ConfigError(
                    f"target_pool.persons: found {self.persons}; there are {len(persons)} persons"
                )
            order = sample_rng(seed, 0, 0, "target_pool").permutation(len(persons))
            persons = [persons[number] for number in sorted(order[: self.persons])]
        pool = index.select(subjects=persons)
        if self.check_target:
            pool = leave_out_active(pool, "target_pool")
            self._miss_nobody(pool)
        if self.pictures_per_person is not None:
            groups = pool.table.groupby(["corpus", "subject"], observed=True)
            pool = pool.select(where=(groups.cumcount() < self.pictures_per_person).to_numpy())
        return self._look_at(pool)

    def _miss_nobody(self, pool: ShardIndex) -> None:
        there = {"/".join(person) for person in pool.persons}
        lost = [subject for subject in self.subjects or () if subject not in there]
        if lost:
            raise CorpusError(
                f"target_pool.subjects: {lost[0]} has no face at rest; choose another person, or"
                " set target_pool.check_target=false"
            )

    def _look_at(self, pool: ShardIndex) -> ShardIndex:
        """The pool, once each candidate is a target. Raises CorpusError naming one that is not."""
        if self.check_target and (self.keys is not None or len(pool) <= LOOKED_AT):
            for row in range(len(pool)):
                check_row(pool, pool.key_of(row))
        return pool


class NorOptimizerConfig(Config):
    """Adam of both networks; the defaults are the paper's."""

    learning_rate: float = Field(1e-4, gt=0)
    "Of the generator; never scaled by the batch."
    discriminator_learning_rate: float | None = Field(None, gt=0)
    "Of the discriminator; null = the generator's."
    betas: tuple[Beta, Beta] = (0.0, 0.99)
    "Adam's decay of the first and of the second moment."
    schedule: ScheduleConfig = ScheduleConfig()
    "Moves both rates."
    clip_norm: float | None = Field(None, gt=0)
    "Gradients of each network are scaled down to this norm; null = never."
    ema_decay: float = Field(0.999, ge=0, lt=1)
    "Share of itself that the averaged generator keeps a step, once warmed up."


class SamplesConfig(Config):
    """The grids that show how training goes: original | target | normalized [| truth]."""

    rows: int = Field(8, gt=0)
    "Rows of the grid."
    truth: Path | None = None
    "A set of true normalized faces (synthetic); its target is then the grid's. Never trained on."
    originals: Path | None = None
    "Shards that the truth was made from; null = the training shards."


class NorConfig(StageConfig):
    """Settings of F_nor's training; rate, moments and weights default to the paper's."""

    name: str = "nor"
    data: DataConfig
    "Originals, and targets too."
    fold: FoldChoice | None = None
    """Only the train subjects of this fold of a cross-validation, so that nobody who is tested or
    chosen by is behind the pictures that F_cla gets; null = everybody."""
    target_pool: TargetPool | None = None
    "Candidate target faces; null = every face, as in the paper."
    self_pair: float = Field(0.3, ge=0, le=1)
    "Probability that original and target are the same picture."
    clip_pair: float = Field(0, ge=0, le=1)
    """Probability that they are two pictures of one clip, so that L_rec asks for the original. For
    clips that keep place, light and pose (`norface synth --clip-frames`); the paper has none."""
    intensity_noise: float = Field(0, ge=0)
    """Spread of what is added to the intensities of self and clip pairs, in fifths of the scale,
    for encoder.original intensity. There the encoder knows the person; about as much as it errs on
    people that it never met teaches the decoder how far to trust it."""
    flip: bool = False
    "Mirror half of the originals and half of the targets; self pairs as one."
    generator: Path | None = None
    "Generator to go on from (fine-tuning); null = fresh weights."
    discriminator_weights: Path | None = None
    """Discriminator to go on from; null = `discriminator.safetensors` beside `generator` where it
    is, since a fresh one would first have to learn what that generator has unlearned."""
    encoder_weights: Literal["packaged"] | Path | None = None
    """What E_s starts from. Of encoder.kind vit: a file of `norface train mae`, of MAE, MAE-Face or
    timm (models/weights.py); of kind reader: one of `norface train critic`, or the packaged one;
    null = fresh weights."""
    normalizer: NormalizerConfig = NormalizerConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    critics: CriticsConfig = CriticsConfig()
    losses: LossWeights = LossWeights()
    adversarial_start_step: int = Field(0, ge=0)
    "From this step on the discriminator trains and L_adv counts."
    optimizer: NorOptimizerConfig = NorOptimizerConfig()
    samples: SamplesConfig = SamplesConfig()
    gradient_checkpointing: bool = False
    "Recompute E_s (a transformer), EMM and D_f in the backward pass: less memory, more work."
    channels_last: bool = True
    "Memory format of pictures and convolutions; faster nearly everywhere."
    compile: bool = False
    "torch.compile the networks: a minute or so at the start, faster steps after."

    @model_validator(mode="after")
    def _check_pairs(self) -> NorConfig:
        if self.self_pair + self.clip_pair > 1:
            raise Misfit(
                f"'.self_pair' {self.self_pair} + '.clip_pair' {self.clip_pair} is more than 1"
            )
        waits = {"adv"} if self.adversarial_start_step else set()
        if not set(self.losses.trained) - waits:
            raise Misfit(
                "'.losses': no term has a weight above 0 from the first step on (adv has none"
                f" before '.adversarial_start_step', {self.adversarial_start_step}); give one"
            )
        halvings, side = len(self.discriminator.channels), self.normalizer.side
        if side < 2**halvings:
            raise Misfit(
                f"'.discriminator.channels': {halvings} entries halve the side as often; {side}"
                f" pixels take {side.bit_length() - 1} at most"
            )
        encoder = self.normalizer.encoder
        tells = isinstance(encoder, ReaderEncoderConfig) and encoder.original == "intensity"
        if self.intensity_noise and not tells:
            raise Misfit(
                "'.intensity_noise': only for '.normalizer.encoder.kind' reader with"
                " '.normalizer.encoder.original' intensity"
            )
        return self

    def describe_run(self) -> dict[str, Any]:
        datasets = list_datasets(self.data.shards, cache=self.data.cache_folder)
        keys = self.target_pool.keys if self.target_pool else None
        return describe_data(datasets, "nor", target=", ".join(keys) if keys else None)
