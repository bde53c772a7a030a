"""The small networks of the synthetic world."""

import json

import pytest
import torch
from safetensors.torch import save_file
from seeded import check_gradient, draw_faces

from norface.critics.base import (
    KINDS,
    CriticChoice,
    CriticsConfig,
    build_critics,
    read_features,
)
from norface.errors import WeightsError
from norface.models.face_networks import (
    FaceNetworkConfig,
    build_face_network,
    fold_norms,
    load_face_network,
)
from norface.synthetic.version import RENDERER_VERSION


def write_network(folder, kind, renderer=str(RENDERER_VERSION)):
    """A file as stage `critic` exports it, and its CriticChoice."""
    config = FaceNetworkConfig(kind=kind, seed=7)
    path = folder / f"{kind}.safetensors"
    settings = {"network": json.dumps(config.model_dump(mode="json"))}
    settings |= {} if renderer is None else {"renderer": renderer}
    save_file(build_face_network(config).state_dict(), path, settings)
    return CriticChoice(weights=path)


def test_five_critics_share_two_networks(tmp_path):
    reader, identity = write_network(tmp_path, "reader"), write_network(tmp_path, "identity")
    critics = build_critics(
        CriticsConfig(
            identity=identity,
            perceptual=identity,
            landmarks=reader,
            expression=reader,
            eyebrow=reader,
        )  # fmt: skip
    )
    assert critics["identity"].trunk is critics["perceptual"].trunk
    assert critics["landmarks"].trunk is critics["eyebrow"].trunk
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    features = read_features(critics, images)
    # Units 1, 2 and 4 are the first three of the order that all units have.
    torch.testing.assert_close(features["eyebrow"], features["expression"][:, :3])
    torch.testing.assert_close(features["identity"], load_face_network(identity.weights)(images))
    assert [tuple(level.shape[1:]) for level in features["perceptual"]] == [(96, 8, 8), (128, 4, 4)]
    assert critics["landmarks"].contour == list(range(17))


def test_reader_in_place_of_identity_is_refused_in_one_line(tmp_path):
    choice = write_network(tmp_path, "reader")
    with pytest.raises(WeightsError, match="kind 'reader', critic 'identity' needs 'identity'"):
        build_critics(CriticsConfig(identity=choice))


@pytest.mark.parametrize("renderer, named", [(None, "1"), ("1", "1"), ("99", "99")])
def test_a_critic_of_another_renderers_faces_is_refused_in_one_line(tmp_path, renderer, named):
    choice = write_network(tmp_path, "reader", renderer)
    wanted = f"reader.safetensors: trained .* renderer {named}, .* renderer {RENDERER_VERSION};"
    with pytest.raises(WeightsError, match=wanted) as refusal:
        build_critics(CriticsConfig(expression=choice))
    assert "\n" not in str(refusal.value) and "norface train critic" in str(refusal.value)


def test_a_critic_of_no_renderers_faces_is_taken_and_its_card_says_so(tmp_path):
    choice = write_network(tmp_path, "reader", "any")
    config = CriticsConfig(eyebrow=choice, identity=CriticChoice())
    critics = build_critics(config)
    assert critics["eyebrow"].card.source == "norface train critic, on no synthetic face"
    assert critics["eyebrow"].card.licence == "that of the weights file"
    assert critics["eyebrow"].card.notes == "" and len(critics["eyebrow"].card.sha256) == 64
    assert "embedded corpus of synthetic faces" in critics["identity"].card.source
    assert critics["identity"].card.licence == "Apache-2.0"


def test_file_that_is_no_network_is_refused_in_one_line(tmp_path):
    path = tmp_path / "reader.safetensors"
    path.write_bytes(b"no weights at all")
    with pytest.raises(WeightsError, match="reader.safetensors: not a critic"):
        load_face_network(path)


def test_reader_gives_landmarks_intensities_and_pose_for_any_side():
    network = build_face_network(FaceNetworkConfig()).eval()
    for side in (48, 64, 100):
        found = network(torch.zeros(2, 3, side, side))
        assert found["landmarks"].shape == (2, 68, 2)
        assert found["intensity"].shape == (2, 17)
        assert found["pose"].shape == (2, 3)


def test_identity_embedding_has_unit_length():
    network = build_face_network(FaceNetworkConfig(kind="identity")).eval()
    embedding = network(torch.rand(3, 3, 64, 64) * 2 - 1)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_every_kind_is_the_difference_of_the_answer(kind):
    judge = build_critics(CriticsConfig(**{kind: CriticChoice()}))[kind].double()

    def answer(image):
        found = judge(image)
        return torch.cat([m.flatten() for m in found]) if isinstance(found, list) else found

    check_gradient(answer, draw_faces(1))


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_autocast_keeps_features_to_two_hundredths(kind):
    judge = build_critics(CriticsConfig(**{kind: CriticChoice()}))[kind]
    faces = draw_faces(2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = judge(faces)
    whole = judge(faces)
    for found, expected in zip(
        *(x if isinstance(x, list) else [x] for x in (half, whole)), strict=True
    ):
        assert (found.float() - expected).norm() < 0.02 * expected.norm()


def test_same_seed_gives_same_weights_and_leaves_the_global_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = build_face_network(FaceNetworkConfig(seed=3))
    assert torch.rand(1) == expected
    second = build_face_network(FaceNetworkConfig(seed=3))
    other = build_face_network(FaceNetworkConfig(seed=4))
    assert torch.equal(first.pose.weight, second.pose.weight)
    assert not torch.equal(first.pose.weight, other.pose.weight)


def test_folded_norms_change_no_answer():
    network = build_face_network(FaceNetworkConfig())
    # Statistics as training leaves them: not 0 and 1.
    network(torch.rand(16, 3, 64, 64) * 2 - 1)
    network.eval()
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    expected = network(images)
    folded = fold_norms(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    for name, found in folded(images).items():
        torch.testing.assert_close(found, expected[name], atol=1e-4, rtol=1e-4)
