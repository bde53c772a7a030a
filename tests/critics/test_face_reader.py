"""The small networks of the synthetic world."""

import math

import torch

from norface.critics.face_reader import (
    CosineMarginHead,
    FaceNetworkConfig,
    build_face_network,
)


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


def test_gradient_reaches_the_image():
    network = build_face_network(FaceNetworkConfig()).eval().double()
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64).requires_grad_()
    network(image)["intensity"].sum().backward()
    assert image.grad.abs().sum() > 0


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


def test_cosine_margin_of_a_worked_example():
    head = CosineMarginHead(2, 2, scale=10.0, margin=0.2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    loss = head(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    # Cosines are 1 and 0: logits 10 * (1 - 0.2) = 8 and 0.
    assert math.isclose(loss.item(), math.log(1 + math.exp(-8)), rel_tol=1e-4)
