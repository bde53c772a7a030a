"""L_cla by worked values; missing labels count nowhere."""

from __future__ import annotations

import math

import pytest
import torch

from norface.losses.classification import (
    detection_loss,
    emotion_loss,
    emotion_weights,
    intensity_loss,
)

NAN = float("nan")


def test_detection_of_even_odds_costs_log_two():
    assert float(detection_loss(torch.zeros(2, 3), torch.ones(2, 3))) == pytest.approx(math.log(2))


def test_missing_units_count_neither_above_nor_below_the_line():
    logits = torch.tensor([[0.0, 50.0], [0.0, -50.0]], requires_grad=True)
    loss = detection_loss(logits, torch.tensor([[1.0, NAN], [0.0, NAN]]))
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert logits.grad[:, 1].tolist() == [0, 0]


def test_a_batch_without_any_label_costs_nothing():
    logits = torch.zeros(2, 2, requires_grad=True)
    loss = detection_loss(logits, torch.full((2, 2), NAN))
    loss.backward()
    assert loss.item() == 0
    assert float(logits.grad.abs().sum()) == 0


def test_class_weights_weigh_units():
    labels = torch.tensor([[1.0, 1.0]])
    weighted = detection_loss(torch.zeros(1, 2), labels, torch.tensor([1.0, 3.0]))
    assert float(weighted) == pytest.approx(2 * math.log(2))


def test_intensity_is_the_mean_square_over_known_labels():
    values = torch.tensor([[1.0, 2.0], [9.0, 4.0]])
    labels = torch.tensor([[0.0, 2.0], [NAN, 1.0]])
    assert float(intensity_loss(values, labels)) == pytest.approx((1 + 0 + 9) / 3)


def test_emotion_skips_unlabelled_faces():
    logits = torch.tensor([[0.0, 0.0], [5.0, -5.0]])
    assert float(emotion_loss(logits, torch.tensor([1, -1]))) == pytest.approx(math.log(2))


def test_emotion_weights_make_rare_classes_count_as_much_as_common_ones():
    labels = torch.tensor([0, 0, 0, 1, -1])
    weights = emotion_weights(labels, 3)
    assert weights[:2].tolist() == pytest.approx([4 / 6, 2.0])
    assert float(weights[labels[:4]].mean()) == pytest.approx(1)
