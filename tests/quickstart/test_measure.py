"""What quickstart measures, on faces whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch

from norface.data.labels import ACTION_UNITS, DETECTION_UNITS
from norface.data.shards import ShardIndex
from norface.evaluation.unit_readers import load_packaged
from norface.images import to_image
from norface.quickstart.measure import (
    Faces,
    choose_person,
    measure_error,
    measure_expression,
    measure_looks,
    read_faces,
    target_parameters,
)
from norface.synthetic.corpus import (
    draw_parameters,
    render_batch,
    write_corpus,
    write_truth,
)
from norface.targets import choose_in_clip


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Shards of eight persons and the key of the target among them."""
    folder = tmp_path_factory.mktemp("people")
    write_corpus(folder, pool="normalizer", subjects=8, frames=12, side=32)
    index = ShardIndex.open(folder)
    return index, choose_in_clip(index)


@pytest.fixture(scope="module")
def faces(people, tmp_path_factory):
    """Twelve persons as they are and as the target, where the normalization is perfect."""
    folder = tmp_path_factory.mktemp("folds")
    originals = ShardIndex.open(
        write_corpus(folder / "shards", pool="folds", subjects=12, frames=8, side=32)
    )
    index, key = people
    made = write_truth(
        folder / "shards", key, folder / "normalized", target_shards=index.folders[0]
    )
    truth = ShardIndex.open(made)
    return read_faces(originals, truth, truth)


def look_away(shown):
    return sum(map(abs, shown.pose)) + abs(shown.light.azimuth) / 4


def test_the_person_is_of_the_frontal_half_the_one_who_is_read_most_from():
    chosen = choose_person(20, 5, seed=3, clip_frames=40, frames=30)
    starts = {n: look_away(draw_parameters("normalizer", n, 0, 3, 40)) for n in range(20, 25)}
    frontal = sorted(starts, key=starts.__getitem__)[:3]
    reader = load_packaged("reader.safetensors")
    reported = [list(ACTION_UNITS).index(unit) for unit in DETECTION_UNITS["synthetic"]]
    spread = {}
    for number in frontal:
        shown = [draw_parameters("normalizer", number, frame, 3, 40) for frame in range(30)]
        with torch.no_grad():
            read = reader(to_image(render_batch(shown, 64)))["intensity"][:, reported]
        spread[number] = read.numpy().std(axis=0).mean()
    assert chosen == max(spread, key=spread.__getitem__)
    assert choose_person(20, 1, seed=3, clip_frames=40) == 20


def test_error_ratio_is_0_for_the_truth_and_1_for_the_bare_target(people, faces):
    index, key = people
    target = index.read_pixels(index.row_of(key))
    assert measure_error(faces, target) == 0
    bare = np.broadcast_to(target, faces.truth.shape)
    assert measure_error(faces._replace(normalized=bare), target) == 1
    # Half way in every pixel, up to rounding.
    half = (faces.truth.astype(int) + bare) // 2
    assert measure_error(faces._replace(normalized=half), target) == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
def test_expression_is_read_from_the_truth_and_not_from_faces_in_the_wrong_order(people, faces):
    index, key = people
    target = target_parameters(index, key)
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


def test_the_source_person_is_recognised_from_originals_and_not_from_the_target_alone(
    people, faces
):
    index, key = people
    target = index.read_pixels(index.row_of(key))
    same = measure_looks(faces._replace(normalized=faces.original), target)
    assert same["source_rank1"] == same["source_rank1_originals"] > 3 * same["chance_rank1"]
    bare = faces._replace(normalized=np.broadcast_to(target, faces.truth.shape).copy())
    found = measure_looks(bare, target)
    # Twelve persons who all look alike are guessed.
    assert found["chance_rank1"] == pytest.approx(1 / 12)
    assert found["source_rank1"] == pytest.approx(1 / 12)
    assert found["source_rank1_originals"] == same["source_rank1_originals"]


def test_the_target_is_rendered_from_what_its_key_says(people):
    index, key = people
    assert dataclasses.replace(target_parameters(index, key), intensity={}).asymmetry == {}
