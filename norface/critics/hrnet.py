"""HRNet-W18 as the judge of the facial contour (eq. 8): 68 points, of which 0 to 16 are the jaw.

Card: HR18-300W.pth of HRNet/HRNet-Facial-Landmark-Detection (code MIT; trained on 300W, whose
pictures are for research) or any file of that layout, by path. Input 256x256, RGB, ImageNet's mean
and standard deviation. Its crops were a quarter larger than the face, much as ours are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from norface.critics.base import Card, Critic, CriticChoice, find_weights
from norface.critics.catalogue import OFFERS
from norface.critics.face_reader import CONTOUR
from norface.files import file_sha256
from norface.images import resize_images
from norface.models.face_networks import POINTS, fold_norms
from norface.models.hrnet_landmarks import SIDE, HrnetLandmarks
from norface.models.tensors import Standardize, at_least_single, fill_network, read_tensors


class HrnetCritic(Critic):
    """images (N, 3, H, W), -1..1 => landmarks (N, 68, 2) in units of the side."""

    contour = CONTOUR

    def __init__(self, kind: str, card: Card, network: HrnetLandmarks):
        super().__init__(kind, card)
        self.network, self.scaling = network, Standardize()

    @classmethod
    def load(cls, kind: str, choice: CriticChoice, parts: dict[Any, Any]) -> HrnetCritic:
        """Raises WeightsError for a missing file or one of another layout."""
        offer = OFFERS["hrnet"]
        path = find_weights(choice, advice=offer.where)
        tensors = {
            name if name.startswith("head.") else f"body.{name}": tensor
            for name, tensor in read_tensors(path, offer.name).items()
        }
        network = HrnetLandmarks(POINTS)
        fill_network(network, tensors, path, offer.name)
        card = Card(
            name=offer.name,
            source=str(path),
            licence=offer.licence,
            research_only=offer.research_only,
            input_side=SIDE,
            notes="A point is the centre of mass of its heat map's peak.",
            sha256=file_sha256(path),
        )
        fold_norms(network.eval())
        return cls(kind, card, network)

    def read(self, seen: Tensor) -> Tensor:
        # Heat maps rounded to bf16 would move a point by a pixel, so they are made in fp32.
        with torch.autocast(seen.device.type, enabled=False):
            images = resize_images(at_least_single(seen), SIDE)
            return self.network(self.scaling(images))
