"""The networks that ship with the package, on people they never saw."""

import numpy as np
import pytest
import torch

from norface.critics.base import PACKAGED, CriticChoice, CriticsConfig, build_critics, read_sums
from norface.data.labels import DETECTION_UNITS
from norface.evaluation.normalization import intensity_correlation
from norface.files import file_sha256
from norface.images import to_image
from norface.models.face_networks import UNITS, load_face_network
from norface.synthetic.corpus import draw_parameters, render_batch
from norface.training.stages.critic import measure_identity

PERSONS, FRAMES = 30, 6
FIRST = 50_000
"Persons of the critics' pool from here on were in no training; it held the first 12,000."


@pytest.fixture(scope="module")
def people():
    """Images (180, 3, 64, 64), intensities (180, 17), yaw (180) and person (180)."""
    drawn = [
        draw_parameters("critics", FIRST + p, f) for p in range(PERSONS) for f in range(FRAMES)
    ]
    intensity = np.array([[one.intensity.get(unit, 0.0) for unit in UNITS] for one in drawn])
    yaw = np.array([one.pose[0] for one in drawn])
    person = np.repeat(np.arange(PERSONS), FRAMES)
    return to_image(render_batch(drawn, 64)), intensity, yaw, person


def test_they_are_small_and_are_what_their_sums_say():
    files = sorted(PACKAGED.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) <= 4_000_000
    assert {path.name: file_sha256(path) for path in files} == read_sums()
    assert len(files) == 4


@pytest.mark.parametrize(
    "name, least", [("reader.safetensors", 0.65), ("judge-reader.safetensors", 0.6)]
)
def test_readers_know_the_action_units_and_the_pose_of_new_people(people, name, least):
    images, intensity, yaw, _ = people
    with torch.no_grad():
        found = load_face_network(PACKAGED / name)(images)
    columns = [UNITS.index(unit) for unit in DETECTION_UNITS["synthetic"]]
    r = intensity_correlation(intensity, found["intensity"].numpy())[columns]
    assert r.mean() > least
    assert np.abs(30 * found["pose"][:, 0].numpy() - yaw).mean() < 3


@pytest.mark.parametrize("name", ["identity.safetensors", "judge-identity.safetensors"])
def test_identity_networks_tell_new_people_apart(people, name):
    images, _, _, person = people
    with torch.no_grad():
        embedding = load_face_network(PACKAGED / name)(images).numpy()
    assert measure_identity(embedding, person)["auc"] > 0.95


def test_judges_are_other_networks_than_those_of_the_losses():
    for kind in ("identity", "reader"):
        own, judge = (
            load_face_network(PACKAGED / f"{prefix}{kind}.safetensors") for prefix in ("", "judge-")
        )
        assert own.config.seed != judge.config.seed
        first, second = own.trunk.stages[0][0].weight, judge.trunk.stages[0][0].weight
        assert first.shape != second.shape or not torch.equal(first, second)


def test_critics_are_built_from_the_package_without_a_path(people):
    kinds = ("identity", "perceptual", "landmarks", "expression", "eyebrow")
    critics = build_critics(CriticsConfig(**dict.fromkeys(kinds, CriticChoice())))
    assert tuple(critics) == kinds
    assert critics["expression"](people[0][:2]).shape == (2, 17)
