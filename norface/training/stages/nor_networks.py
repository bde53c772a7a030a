"""What stage `nor` begins with: fresh networks, or those of an earlier run (fine-tuning)."""

from __future__ import annotations

from typing import NamedTuple

import torch

from norface.data.shards import Person
from norface.errors import ConfigError
from norface.models.discriminator import Discriminator, load_discriminator
from norface.models.normalizer import Normalizer, load_generator
from norface.training.backends.refusals import refuse_batch_norm
from norface.training.stages.nor_config import NorConfig
from norface.training.stages.nor_encoder import start_encoder

GENERATOR_FILE, DISCRIMINATOR_FILE = "generator.safetensors", "discriminator.safetensors"
"What a run exports."


class Networks(NamedTuple):
    """The same on every rank."""

    generator: Normalizer
    discriminator: Discriminator
    notes: tuple[str, ...]
    "What to say of where they come from."
    persons: set[Person]
    "Whom they were trained on before."


def build_networks(config: NorConfig) -> Networks:
    """Raises ConfigError and WeightsError for files that do not fit the config."""
    notes: tuple[str, ...] = ()
    persons: set[Person] = set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator = Normalizer(config.normalizer)
        discriminator = Discriminator(config.discriminator)
    refuse_batch_norm(discriminator)
    if config.encoder_weights is not None:
        said, seen = start_encoder(generator, config.encoder_weights)
        notes, persons = notes + said, persons | seen
    if config.generator is not None:
        before, card = load_generator(config.generator)
        if card.architecture != config.normalizer:
            raise ConfigError(
                f"generator: {config.generator} has other sizes than `normalizer`; copy them"
                f" from the config of its run: {card.architecture.model_dump_json()}"
            )
        generator.load_state_dict(before.state_dict())
        persons |= set(card.persons)
    notes += start_discriminator(discriminator, config)
    generator.set_gradient_checkpointing(config.gradient_checkpointing)
    if config.channels_last:
        generator = generator.to(memory_format=torch.channels_last)
        discriminator = discriminator.to(memory_format=torch.channels_last)
    return Networks(generator, discriminator, notes, persons)


def start_discriminator(discriminator: Discriminator, config: NorConfig) -> tuple[str, ...]:
    """Give it the weights that `generator` was trained against, where they are; says which."""
    path = config.discriminator_weights
    if path is None:
        if config.generator is None:
            return ()
        path = config.generator.with_name(DISCRIMINATOR_FILE)
        if not path.is_file():
            return (f"discriminator: fresh weights, no {path} beside the generator",)
    before = load_discriminator(path)
    if before.config != config.discriminator:
        raise ConfigError(
            f"discriminator_weights: {path} has other sizes than `discriminator`; copy them from"
            f" the config of its run: {before.config.model_dump_json()}"
        )
    discriminator.load_state_dict(before.state_dict())
    return (f"discriminator: goes on from {path}",)
