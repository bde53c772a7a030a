"""Critics of full size with random weights: what judging costs, without anybody's files."""

from __future__ import annotations

import torch
from torch import nn

from norface.critics import vgg
from norface.critics.arcface import ArcFaceCritic
from norface.critics.base import Card, Critic
from norface.critics.coefficients import CoefficientsCritic
from norface.critics.embedding import EmbeddingCritic
from norface.critics.hrnet import HrnetCritic
from norface.critics.warp import ARCFACE_SIDE
from norface.models import hrnet_landmarks
from norface.models.expression_embedding import ExpressionEmbedding, build_timm
from norface.models.face_networks import POINTS, fold_norms
from norface.models.iresnet import DEPTHS, IResNet

RESNET = "resnet50"
"The two that regress numbers: an expression embedding, brow coefficients."
EMBEDDING, BROWS = 16, 5
"Numbers that they regress."


def draw_critics(seed: int = 0) -> dict[str, Critic]:
    """A frozen critic of every kind, ready for stage `nor`: VGG16, ArcFace's IResNet-50, HRNet-W18
    and two ResNet-50. Built as from a file, norms folded; torch's own state is left alone."""

    def card(name: str, side: int) -> Card:
        return Card(name=name, source="norface bench", licence="random weights", input_side=side)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers, iresnet, hrnet = (
            vgg.build_layers(),
            IResNet(DEPTHS[50]),
            hrnet_landmarks.HrnetLandmarks(POINTS),
        )
        for network in (layers, iresnet, hrnet):
            keep_scale(network)
        critics: dict[str, Critic] = {
            "perceptual": vgg.VggCritic("perceptual", card("VGG16", vgg.SIDE), layers),
            "identity": ArcFaceCritic("identity", card("IResNet-50", ARCFACE_SIDE), fold(iresnet)),
            "landmarks": HrnetCritic("landmarks", card("HRNet-W18", hrnet_landmarks.SIDE), hrnet),
        }
        fold(hrnet)
        resnet, scaling, side = build_timm(RESNET, EMBEDDING)
        embedding = ExpressionEmbedding(resnet.eval(), scaling, side)
        critics["expression"] = EmbeddingCritic("expression", card(RESNET, side), embedding)
        resnet, scaling, side = build_timm(RESNET, BROWS)
        critics["eyebrow"] = CoefficientsCritic(
            "eyebrow", card(RESNET, side), resnet.eval(), scaling, list(range(BROWS))
        )
    return {kind: critic.freeze() for kind, critic in critics.items()}


def fold(network: nn.Module) -> nn.Module:
    """In evaluation mode, norms folded where one follows a convolution."""
    return fold_norms(network.eval())


def keep_scale(network: nn.Module) -> None:
    """Convolutions that neither blow maps up nor let them fade, whose numbers would be too small
    to be computed with at full speed."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
