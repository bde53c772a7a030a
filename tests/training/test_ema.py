import pytest
import torch
from torch import nn

from norface.training.ema import MovingAverage


def test_average_follows_fast_at_first_and_slowly_later():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = MovingAverage(model, decay=0.5)
    nn.init.ones_(model.weight)
    average.update(model, 0)
    assert average.model.weight.item() == pytest.approx(0.9)
    average.update(model, 1000)
    assert average.model.weight.item() == pytest.approx(0.95)


def test_average_has_its_own_tensors_and_copies_buffers():
    model = nn.BatchNorm1d(2)
    average = MovingAverage(model, decay=0.9)
    model.running_mean.fill_(3.0)
    average.update(model, 0)
    assert average.model.running_mean.tolist() == [3.0, 3.0]
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    with torch.no_grad():
        model.weight.fill_(7.0)
    assert average.model.weight.tolist() == [1.0, 1.0]
