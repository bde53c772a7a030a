"""What a step of stage `nor` costs, told before it begins."""

from __future__ import annotations

import torch

from norface.models.cost import add_costs, measure_cost, tabulate_costs
from norface.models.discriminator import Discriminator
from norface.models.normalizer import Normalizer
from norface.training.stages.nor_config import NorConfig


def describe_cost(generator: Normalizer, discriminator: Discriminator) -> str:
    """Parameters and operations of every trained network for one pair of faces, as a table.

    The judges are left out: not all of them can be counted without being run.
    """
    picture = (3, generator.config.side, generator.config.side)
    tokens = (generator.config.encoder.grid**2, generator.config.encoder.width)
    encoder = measure_cost("E_s (one face)", generator.encoder, picture)
    rest = [
        measure_cost("EMM", generator.merging, tokens, tokens),
        measure_cost("D_f", generator.decoder, tokens, picture, tokens),
    ]
    whole = add_costs("F_nor = 2 E_s + EMM + D_f", [encoder, encoder, *rest])
    judge = measure_cost("D_res (one face)", discriminator, picture, picture)
    return tabulate_costs([encoder, *rest, whole, judge])


def count_operations(config: NorConfig) -> float:
    """Operations that one pair of faces needs: both passes of F_nor; both of D_res on a real and a
    generated face; both of D_res frozen, where it judges, back into the picture alone.

    What gradient checkpointing computes again is left out, as are the judges.
    """
    picture = (3, config.normalizer.side, config.normalizer.side)
    with torch.device("meta"):
        generator, judge = Normalizer(config.normalizer), Discriminator(config.discriminator)
    whole = measure_cost("F_nor", generator, picture, picture, into_inputs=False)
    operations = whole.forward + whole.backward
    if config.losses.adv is not None:
        trained = measure_cost("D_res", judge, picture, picture, into_inputs=False)
        frozen = measure_cost("D_res", judge.requires_grad_(False), picture, picture)
        operations += 2 * (trained.forward + trained.backward) + frozen.forward + frozen.backward
    return float(operations)
