"""What stands between critics and losses: refusals before the first step."""

import pytest
import torch

from norface.critics.base import Card, Critic
from norface.errors import ConfigError, WeightsError
from norface.losses.judging import Judging
from norface.losses.weighted import LossWeights

CARD = Card(name="test", source="this file", licence="Apache-2.0", input_side=8)
ONLY_EXPRESSION = {"adv": None, "rec": None, "perc": None, "id": None, "lm": None, "eye": None}


class Mean(Critic):
    """Mean colour; of a dark picture NaN, as a network with a logarithm would."""

    def read(self, seen):
        return seen.mean((2, 3)).where(seen.amax((2, 3)) > -1, torch.nan)


@pytest.mark.parametrize(
    ("term", "kind", "sources"),
    [
        ("perc", "perceptual", "synthetic, vgg"),
        ("id", "identity", "synthetic, arcface"),
        ("lm", "landmarks", "synthetic, mediapipe, hrnet"),
        ("exp", "expression", "synthetic, mediapipe, embedding"),
        ("eye", "eyebrow", "synthetic, mediapipe, coefficients"),
    ],
)
def test_a_weight_without_its_critic_names_key_and_way_out(term, kind, sources):
    weights = LossWeights(**{**ONLY_EXPRESSION, "exp": None, term: 3})
    with pytest.raises(ConfigError) as caught:
        Judging({}, weights)
    assert str(caught.value) == (
        f"losses.{term}: found 3.0, but critics.{kind} is not set; choose its source"
        f" ({sources}; `norface critics list` says where to get each) or set"
        f" losses.{term}=null"
    )


def test_a_weight_of_zero_needs_no_critic_and_is_not_measured():
    judging = Judging({}, LossWeights(**{**ONLY_EXPRESSION, "exp": 0}))
    assert not judging.can_measure("exp")


def test_features_that_are_not_finite_are_refused_with_the_first_batch():
    judging = Judging({"expression": Mean("expression", CARD)}, LossWeights(**ONLY_EXPRESSION))
    faces = torch.zeros(3, 3, 8, 8)
    faces[1] = -1
    with pytest.raises(WeightsError, match="critics.expression: features of 1 of 3 pictures"):
        judging.read_truth(faces, faces, ["exp"])


def test_truth_carries_no_gradient():
    judging = Judging({"expression": Mean("expression", CARD)}, LossWeights(**ONLY_EXPRESSION))
    faces = torch.zeros(2, 3, 8, 8, requires_grad=True)
    truth = judging.read_truth(faces, faces, ["exp"])
    assert not truth["exp"].requires_grad
