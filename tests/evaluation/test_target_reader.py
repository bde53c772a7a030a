"""The reader of one person, on renders of that person."""

import numpy as np
import pytest

from norface.data.labels import DETECTION_UNITS
from norface.evaluation.normalization import intensity_correlation
from norface.evaluation.target_reader import read_intensity, train_target_reader
from norface.models.face_networks import UNITS
from norface.synthetic.corpus import draw_parameters, normalized_truth
from norface.synthetic.parameters import FaceParameters
from norface.synthetic.renderer import render


def render_target(persons):
    """Renders of one target doing what pictures of `persons` do, and the intensities."""
    target = FaceParameters(draw_parameters("normalizer", 0, 0).identity_seed)
    drawn = [draw_parameters("critics", person, 0) for person in persons]
    pixels = [render(normalized_truth(one, target), 64).pixels for one in drawn]
    intensity = [[one.intensity.get(unit, 0.0) for unit in UNITS] for one in drawn]
    return np.stack(pixels), np.array(intensity)


@pytest.mark.slow
def test_target_reader_reads_expressions_that_it_was_not_trained_on():
    pixels, intensity = render_target(range(200))
    reader = train_target_reader(pixels, intensity, epochs=20)
    pixels, intensity = render_target(range(200, 280))
    columns = [UNITS.index(unit) for unit in DETECTION_UNITS["synthetic"]]
    r = intensity_correlation(intensity[:, columns], read_intensity(reader, pixels)[:, columns])
    assert r.mean() > 0.6


def test_two_trainings_of_one_seed_agree():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 64, 64, 3), np.uint8)
    intensity = rng.uniform(0, 5, (8, len(UNITS)))
    readings = [
        read_intensity(train_target_reader(pixels, intensity, epochs=1, batch=4), pixels)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*readings)
