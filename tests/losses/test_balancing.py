"""Weights that follow the shares of the gradient that were asked for."""

import math

import pytest
import torch

from norface.errors import ConfigError
from norface.losses.balancing import Balancer, gradient_sizes
from norface.losses.judging import gradient_shares
from norface.losses.weighted import LossWeights


def choose(shares, steps=2, **weights):
    settings = {"adv": None, "rec": 10, "perc": None, "id": 2, "lm": None, "exp": 4, "eye": 0}
    return LossWeights(**{**settings, **weights}, balance={"shares": shares, "steps": steps})


def make_losses(rec=1.0, id=1.0, exp=1.0):
    """Losses whose gradients in the picture have exactly these sizes, and the picture."""
    picture = torch.zeros(3, requires_grad=True)
    sizes = {"rec": rec, "id": id, "exp": exp}
    return {t: size * picture[k] for k, (t, size) in enumerate(sizes.items())}, picture


def itself(sizes):
    return sizes


def test_sizes_are_the_norms_of_the_gradients_and_zero_where_there_is_none():
    picture = torch.tensor([1.0, 2.0], requires_grad=True)
    losses = {"a": 3 * picture[0] + 4 * picture[1], "b": torch.tensor(1.0, requires_grad=True) * 2}
    found = gradient_sizes(losses, ["a", "b", "absent"], picture)
    assert {name: size.item() for name, size in found.items()} == {"a": 5.0, "b": 0.0}


def test_weights_of_a_worked_example():
    balancer = Balancer(choose({"rec": 3, "exp": 1}), itself)
    losses, picture = make_losses(rec=0.5, exp=20.0)
    weights = balancer.update(losses, picture)
    # 10 x 0.5 + 4 x 20 = 85 in all: rec gets 63.75 of it, exp 21.25.
    assert weights.rec == pytest.approx(63.75 / 0.5)
    assert weights.exp == pytest.approx(21.25 / 20)
    assert weights.id == 2 and weights.eye == 0


def test_the_shares_that_were_asked_for_are_those_that_are_logged():
    balancer = Balancer(choose({"rec": 0.5, "id": 0.2, "exp": 0.3}), itself)
    losses, picture = make_losses(rec=7.0, id=0.01, exp=300.0)
    shares = gradient_shares(losses, balancer.update(losses, picture), picture)
    assert {term: round(share.item(), 5) for term, share in shares.items()} == {
        "rec": 0.5,
        "id": 0.2,
        "exp": 0.3,
    }


def test_weights_follow_the_mean_of_the_steps_and_then_stay():
    balancer = Balancer(choose({"rec": 1, "exp": 1}, steps=2), itself)
    for size in (1.0, 3.0):
        weights = balancer.update(*make_losses(rec=size, exp=2.0))
    # Means 2 and 2: (10 x 2 + 4 x 2) / 2 = 14 each.
    assert weights.rec == pytest.approx(7) and weights.exp == pytest.approx(7)
    assert balancer.update(*make_losses(rec=1000.0, exp=2.0)) is weights
    assert {name: value.item() for name, value in balancer.shown().items()} == {
        "weight/rec": pytest.approx(7),
        "weight/exp": pytest.approx(7),
    }


def test_measuring_waits_for_a_term_that_comes_later():
    balancer = Balancer(choose({"rec": 1, "exp": 1}), itself)
    losses, picture = make_losses()
    without = {"rec": losses["rec"]}
    assert balancer.update(without, picture) is balancer.configured
    assert balancer.counted == 0
    assert balancer.update(losses, picture).rec == pytest.approx(7)


def test_a_term_without_gradient_so_far_keeps_its_weight():
    # A batch without self pairs: L_rec is 0 and pulls at nothing.
    balancer = Balancer(choose({"rec": 1, "id": 1, "exp": 2}), itself)
    weights = balancer.update(*make_losses(rec=0.0, id=3.0, exp=1.0))
    assert weights.rec == 10
    # 2 x 3 + 4 x 1 = 10, a third of it for id.
    assert weights.id == pytest.approx(10 / 3 / 3) and weights.exp == pytest.approx(20 / 3)


def test_ranks_agree_because_sizes_are_their_mean():
    sizes = [{"rec": 1.0, "exp": 5.0}, {"rec": 3.0, "exp": 1.0}]
    mean = torch.tensor([2.0, 3.0])
    found = []
    for one in sizes:
        balancer = Balancer(choose({"rec": 1, "exp": 1}), lambda _: mean)
        found.append(balancer.update(*make_losses(**one)))
    assert found[0] == found[1]
    assert found[0].rec == pytest.approx((10 * 2 + 4 * 3) / 2 / 2)


def test_a_loss_that_is_not_finite_leaves_the_weights_alone():
    balancer = Balancer(choose({"rec": 1, "exp": 1}), itself)
    assert balancer.update(*make_losses(rec=math.nan)) is balancer.configured


def test_state_goes_on_where_it_was_left():
    first = Balancer(choose({"rec": 1, "exp": 1}, steps=3), itself)
    first.update(*make_losses(rec=4.0))
    again = Balancer(choose({"rec": 1, "exp": 1}, steps=3), itself)
    again.load_state_dict(first.state_dict())
    assert again.weights == first.weights
    assert again.update(*make_losses(exp=9.0)) == first.update(*make_losses(exp=9.0))
    assert Balancer(LossWeights(), itself).state_dict() == {}


def test_a_term_that_is_not_trained_on_is_refused():
    with pytest.raises(ConfigError, match="names 'eye', which is not trained on; valid: rec, id"):
        Balancer(choose({"rec": 1, "eye": 1}), itself)
