"""What quickstart measures, on faces whose answer is known."""

import dataclasses

import numpy as np
import pytest

from norface.data.shards import ShardIndex
from norface.quickstart.measure import (
    Faces,
    choose_targets,
    measure_error,
    measure_expression,
    read_faces,
    target_parameters,
)
from norface.synthetic.corpus import parameters_of, write_corpus, write_truth


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Shards of eight persons and the key of the best target among them."""
    folder = tmp_path_factory.mktemp("people")
    write_corpus(folder, pool="normalizer", subjects=8, frames=12, side=32)
    index = ShardIndex.open(folder)
    return index, choose_targets(index, 3)


@pytest.fixture(scope="module")
def faces(people, tmp_path_factory):
    """Twelve persons as they are and as the target, where the normalization is perfect."""
    folder = tmp_path_factory.mktemp("folds")
    originals = ShardIndex.open(
        write_corpus(folder / "shards", pool="folds", subjects=12, frames=8, side=32)
    )
    index, keys = people
    made = write_truth(
        folder / "shards", keys[0], folder / "normalized", target_shards=index.folders[0]
    )
    truth = ShardIndex.open(made)
    return read_faces(originals, truth, truth)


def test_targets_are_neutral_pictures_of_different_persons_the_most_frontal_first(people):
    index, keys = people
    shown = [parameters_of(index.read_record(index.row_of(key))) for key in keys]
    assert all(sum(one.intensity.values()) == 0 for one in shown)
    assert len({one.identity_seed for one in shown}) == 3
    oddness = [sum(map(abs, s.pose)) + abs(s.light.azimuth) / 4 for s in shown]
    assert oddness == sorted(oddness)


def test_error_ratio_is_0_for_the_truth_and_1_for_the_bare_target(people, faces):
    index, keys = people
    target = index.read_pixels(index.row_of(keys[0]))
    assert measure_error(faces, target) == 0
    bare = np.broadcast_to(target, faces.truth.shape)
    assert measure_error(faces._replace(normalized=bare), target) == 1
    # Half way in every pixel, up to rounding.
    half = (faces.truth.astype(int) + bare) // 2
    assert measure_error(faces._replace(normalized=half), target) == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
def test_expression_is_read_from_the_truth_and_not_from_faces_in_the_wrong_order(people, faces):
    index, keys = people
    target = target_parameters(index, keys[0])
    shuffled = np.random.default_rng(0).permutation(len(faces.truth))
    wrong = faces._replace(normalized=faces.truth[shuffled])
    found = measure_expression(wrong, target, renders=160, seed=0)
    assert found["au_r_truth"] > 0.5
    assert abs(found["au_r"]) < 0.15
    assert {name for name in found if "/" in name} >= {"au_r/AU12", "au_r/AU26"}


def test_faces_come_in_the_order_of_the_originals(faces):
    assert isinstance(faces, Faces)
    assert len(faces.original) == len(faces.truth) == len(faces.person) == 96
    assert faces.intensity.shape == (96, 17) and not np.isnan(faces.intensity).any()
    assert list(faces.person[:8]) == [faces.person[0]] * 8


def test_the_target_is_rendered_from_what_its_key_says(people):
    index, keys = people
    assert dataclasses.replace(target_parameters(index, keys[0]), intensity={}).asymmetry == {}
