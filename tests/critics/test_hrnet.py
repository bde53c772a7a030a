"""HRNet's heat maps and their peaks; the network itself with seeded weights."""

import copy

import pytest
import torch
from seeded import check_gradient, draw_faces, settle

from norface.critics.base import CriticChoice, CriticsConfig, build_critics
from norface.errors import ConfigError, WeightsError
from norface.models.hrnet_landmarks import HrnetLandmarks, find_peaks


@pytest.fixture(scope="module")
def network():
    return settle(HrnetLandmarks())


@pytest.fixture(scope="module")
def weights_file(network, tmp_path_factory):
    """As HR18-300W.pth: names of the authors' code, saved from data parallel training."""
    names = {f"module.{n.removeprefix('body.')}": t for n, t in network.state_dict().items()}
    path = tmp_path_factory.mktemp("hrnet") / "HR18-300W.pth"
    torch.save(names, path)
    return path


def choose(path, **changes):
    return CriticsConfig(landmarks=CriticChoice(source="hrnet", weights=path, **changes))


@pytest.fixture(scope="module")
def critic(weights_file):
    return build_critics(choose(weights_file, accept_licence=True))["landmarks"]


def draw_gaussians(points, side=64, height=1.0):
    """Heat maps as the network is trained to give: height 1, one cell wide."""
    cells = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    away = (cells - points[..., :1]) ** 2
    down = (cells - points[..., 1:]) ** 2
    return height * torch.exp(-(away[..., None, :] + down[..., :, None]) * side**2 / 2)


def test_peaks_of_gaussian_heat_maps_are_found_between_cells():
    points = torch.tensor([[[0.31, 0.52], [0.500, 0.777], [0.1, 0.9]]], dtype=torch.float64)
    torch.testing.assert_close(find_peaks(draw_gaussians(points)), points, atol=0.1 / 64, rtol=0)


def test_a_lower_peak_beside_the_highest_moves_the_point_by_less_than_a_cell():
    points = torch.tensor([[[0.3, 0.5]]], dtype=torch.float64)
    other = draw_gaussians(torch.tensor([[[0.8, 0.5]]], dtype=torch.float64), height=0.5)
    found = find_peaks(draw_gaussians(points) + other)
    assert (found - points).abs().max() < 1 / 64


def test_a_map_without_heat_gives_the_middle_and_no_nan():
    assert find_peaks(-torch.ones(1, 1, 4, 4)).tolist() == [[[0.5, 0.5]]]


def test_peaks_have_the_gradient_of_their_differences():
    heat = draw_gaussians(torch.tensor([[[0.4, 0.6]]], dtype=torch.float64), side=6)
    noise = torch.rand(heat.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(find_peaks, (heat + 0.1 * noise).requires_grad_())


def test_the_layout_is_that_of_the_authors_code(network):
    # Read off HRNet/HRNet-Facial-Landmark-Detection:lib/models/hrnet.py and
    # experiments/300w/face_alignment_300w_hrnet_w18.yaml.
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["body.conv1.weight"] == (64, 3, 3, 3)
    assert shapes["body.transition1.0.0.weight"] == (18, 256, 3, 3)
    assert shapes["body.transition1.1.0.0.weight"] == (36, 256, 3, 3)
    assert shapes["body.stage4.2.branches.3.3.conv2.weight"] == (144, 144, 3, 3)
    assert shapes["body.stage4.2.fuse_layers.0.3.0.weight"] == (18, 144, 1, 1)
    assert shapes["body.stage4.2.fuse_layers.3.0.2.0.weight"] == (144, 18, 3, 3)
    assert shapes["head.0.weight"] == (270, 270, 1, 1)
    assert shapes["head.0.bias"] == (270,)
    assert shapes["head.3.weight"] == (68, 270, 1, 1)
    modes = {m.mode for m in network.modules() if isinstance(m, torch.nn.Upsample)}
    assert modes == {"bilinear"}


def test_points_are_those_of_the_network_on_the_scaled_picture(critic, network):
    unit = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        heat = network.heat((unit - mean) / std)
        expected = network((unit - mean) / std)
        found = critic(unit * 2 - 1)
    assert heat.shape == (1, 68, 64, 64)
    assert found.shape == (1, 68, 2) and critic.contour == list(range(17))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_gradients_reach_a_picture_of_any_size_and_agree_with_differences(critic):
    check_gradient(copy.deepcopy(critic).double(), draw_faces(1))


def test_bf16_autocast_does_not_move_the_points(critic):
    faces = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = critic(faces)
    torch.testing.assert_close(found, critic(faces), atol=1e-5, rtol=0)


def test_weights_trained_on_300w_need_a_yes(weights_file):
    with pytest.raises(ConfigError, match="critics.landmarks.accept_licence=true"):
        build_critics(choose(weights_file))


def test_weights_of_other_points_or_no_path_are_refused_in_one_line(network, tmp_path):
    state = {n.removeprefix("body."): t for n, t in network.state_dict().items()}
    state["head.3.weight"], state["head.3.bias"] = torch.zeros(98, 270, 1, 1), torch.zeros(98)
    torch.save(state, tmp_path / "HR18-WFLW.pth")
    with pytest.raises(WeightsError, match=r"head.3.weight is \(98, .* expected \(68, "):
        build_critics(choose(tmp_path / "HR18-WFLW.pth", accept_licence=True))
    with pytest.raises(WeightsError, match="has no weights: .*HR18-300W.pth from https"):
        build_critics(choose(None))
