import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from norface.training.seeding import sample_key, sample_normal, sample_rng, seed_everything


def test_the_same_key_gives_the_same_numbers_whatever_was_drawn_before():
    first = sample_rng(1, 2, 3, "flip").random(5)
    sample_rng(1, 2, 3, "noise").random(100)
    np.testing.assert_array_equal(sample_rng(1, 2, 3, "flip").random(5), first)


@pytest.mark.parametrize("other", [(2, 2, 3, "a"), (1, 3, 3, "a"), (1, 2, 4, "a"), (1, 2, 3, "b")])
def test_every_part_of_the_key_matters(other):
    assert sample_rng(1, 2, 3, "a").random() != sample_rng(*other).random()


def test_keys_of_many_samples_are_all_different():
    keys = {sample_key(0, epoch, position, "x") for epoch in range(10) for position in range(1000)}
    assert len(keys) == 10_000


def test_parts_of_the_key_do_not_run_into_each_other():
    assert sample_key(1, 12, 3, "x") != sample_key(11, 2, 3, "x")
    assert sample_key(0, 1, 0, "x") != sample_key(0, 0, 1, "x")


def test_numbers_of_neighbouring_samples_are_uniform_and_uncorrelated():
    values = np.array([sample_rng(0, 0, position, "x").random() for position in range(4000)])
    assert abs(values.mean() - 0.5) < 0.02
    assert abs(values.var() - 1 / 12) < 0.005
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.06


def test_normal_noise_of_a_batch_is_that_of_its_halves():
    whole = sample_normal(5, [0, 0, 1, 1], [8, 9, 0, 1], "router", (3, 2))
    first = sample_normal(5, [0, 0], [8, 9], "router", (3, 2))
    second = sample_normal(5, [1, 1], [0, 1], "router", (3, 2))
    assert whole.shape == (4, 3, 2) and whole.dtype == torch.float32
    assert torch.equal(whole, torch.cat([first, second]))


def test_normal_noise_is_normal():
    noise = sample_normal(0, [0] * 200, range(200), "x", (50,))
    assert abs(noise.mean().item()) < 0.03
    assert abs(noise.std().item() - 1) < 0.03


def test_noise_of_tensors_as_collated_by_a_loader_is_that_of_integers():
    collated = sample_normal(0, torch.tensor([1, 1]), torch.tensor([2, 3]), "x", (2,))
    assert torch.equal(collated, sample_normal(0, [1, 1], [2, 3], "x", (2,)))


def test_another_process_draws_the_same():
    code = (
        "from norface.training.seeding import sample_rng; print(sample_rng(7, 8, 9, 'x').random())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(there.stdout) == sample_rng(7, 8, 9, "x").random()


def test_seed_everything_repeats_the_global_generators():
    draws = []
    for _ in range(2):
        seed_everything(3)
        draws.append((random.random(), np.random.rand(), torch.rand(()).item()))
    assert draws[0] == draws[1]
