"""ArcFace by arcface_torch's tensors and by ONNX, on files that the tests write."""

import copy

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from seeded import check_gradient, draw_faces, settle

from norface.critics.arcface import ArcFaceCritic
from norface.critics.base import Card, CriticChoice, CriticsConfig, build_critics
from norface.critics.warp import ARCFACE_POINTS, build_arcface_warp
from norface.data.alignment import (
    fit_similarity,
    move_points,
    template_points,
    warp_picture,
)
from norface.errors import ConfigError, WeightsError
from norface.files import file_sha256
from norface.images import to_image, to_pixels
from norface.models.iresnet import DEPTHS, IResNet, count_blocks
from norface.models.onnx_graph import read_onnx

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, the oracle, is not installed")


@pytest.fixture(scope="module")
def backbone():
    return settle(IResNet(DEPTHS[18]))


@pytest.fixture(scope="module")
def backbone_file(backbone, tmp_path_factory):
    path = tmp_path_factory.mktemp("arcface") / "backbone.pt"
    torch.save(backbone.state_dict(), path)
    return path


CARD = Card(name="small", source="this file", licence="Apache-2.0", input_side=112)


def load(path, **changes):
    choice = CriticChoice(source="arcface", weights=path, accept_licence=True, **changes)
    return build_critics(CriticsConfig(identity=choice))["identity"]


@pytest.fixture(scope="module")
def critic(backbone_file):
    return load(backbone_file)


def test_iresnet_has_the_names_and_shapes_of_arcface_torch():
    # Read off insightface:recognition/arcface_torch/backbones/iresnet.py.
    found = {name: tuple(t.shape) for name, t in IResNet(DEPTHS[18]).state_dict().items()}
    assert {name.split(".")[0] for name in found} == {
        *("conv1", "bn1", "prelu", "layer1", "layer2", "layer3", "layer4", "bn2", "fc", "features")
    }
    block = {name.split(".", 2)[2].rpartition(".")[0] for name in found if "layer2.0" in name}
    assert block == {
        *("bn1", "conv1", "bn2", "prelu", "conv2", "bn3", "downsample.0", "downsample.1")
    }
    assert found["fc.weight"] == (512, 512 * 7 * 7)
    assert found["prelu.weight"] == (64,)
    assert found["layer1.0.downsample.0.weight"] == (64, 64, 1, 1)
    assert found["layer2.0.conv1.weight"] == (128, 64, 3, 3)
    assert found["layer2.0.bn1.weight"] == (64,)
    assert found["layer4.1.bn3.running_mean"] == (512,)
    assert "layer1.1.downsample.0.weight" not in found


def test_the_depth_is_told_from_the_names():
    for blocks in DEPTHS.values():
        pairs = [(group, block) for group in range(4) for block in range(blocks[group])]
        assert count_blocks(f"layer{g + 1}.{b}.bn1.bias" for g, b in pairs) == blocks


def test_the_warp_brings_our_template_nearest_to_arcfaces():
    found = fit_similarity(template_points(256), ARCFACE_POINTS)
    rest = move_points(found, template_points(256)) - ARCFACE_POINTS
    assert np.abs(rest).max() < 2.5, "pixels of 112"
    # A dot at each of our points lies within half a pixel of where the similarity takes it.
    warp = build_arcface_warp()
    for point, wanted in zip(
        template_points(256), move_points(found, template_points(256)), strict=True
    ):
        rows, columns = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
        dot = torch.exp(-((columns - point[0]) ** 2 + (rows - point[1]) ** 2) / 18)
        crop = warp(dot.expand(1, 3, 256, 256))[0, 0]
        y, x = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
        centre = torch.stack([(crop * x).sum(), (crop * y).sum()]) / crop.sum()
        np.testing.assert_allclose(centre.numpy(), wanted, atol=0.02)


@pytest.mark.parametrize("side", [64, 256])
def test_the_warp_agrees_with_opencvs(side):
    faces = draw_faces(1, side)
    matrix = fit_similarity(template_points(side), ARCFACE_POINTS)
    expected = warp_picture(to_pixels(faces)[0], matrix, 112, border=cv2.BORDER_REPLICATE)
    found = build_arcface_warp()(faces)[0]
    # OpenCV interpolates in steps of 1/32 pixel and of whole grey levels.
    difference = (found - to_image(expected)).abs() * 127.5
    assert difference.mean() < 0.7 and difference.max() < 4


def test_embeddings_are_those_of_the_backbone_on_the_warped_picture(critic, backbone):
    faces = draw_faces(2, 256)
    with torch.no_grad():
        expected = backbone(build_arcface_warp()(faces))
        found = critic(faces)
    assert found.shape == (2, 512)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(
        found, expected / expected.norm(dim=1, keepdim=True), atol=1e-4, rtol=0
    )


def test_safetensors_and_a_data_parallel_state_are_read_alike(critic, backbone, tmp_path):
    save_file(backbone.state_dict(), tmp_path / "backbone.safetensors")
    renamed = {f"module.{name}": tensor for name, tensor in backbone.state_dict().items()}
    torch.save({"state_dict": renamed, "epoch": 3}, tmp_path / "state.pt")
    faces = draw_faces(1)
    for name in ("backbone.safetensors", "state.pt"):
        torch.testing.assert_close(load(tmp_path / name)(faces), critic(faces), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def small_critic():
    """IResNet in miniature: a full one takes seconds in double precision and in bf16."""
    network = settle(IResNet((1, 2, 1, 1), channels=(8, 8, 16, 16), embedding=64))
    return ArcFaceCritic("identity", CARD, network).freeze()


def test_gradient_in_the_picture_is_the_difference_of_the_answer(small_critic):
    check_gradient(copy.deepcopy(small_critic).double(), draw_faces(1))


def test_bf16_autocast_hardly_turns_the_embedding(small_critic):
    faces = draw_faces(2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = small_critic(faces)
    assert half.dtype == torch.float32
    assert (half * small_critic(faces)).sum(1).min() > 0.999


def test_a_batch_answers_as_its_pictures_do_alone(small_critic):
    faces = draw_faces(3)
    alone = torch.cat([small_critic(face[None]) for face in faces])
    torch.testing.assert_close(small_critic(faces), alone, atol=1e-5, rtol=0)


def test_weights_of_research_need_a_yes_that_the_message_spells_out(backbone_file):
    choice = CriticChoice(source="arcface", weights=backbone_file)
    with pytest.raises(ConfigError) as caught:
        build_critics(CriticsConfig(identity=choice))
    assert "non-commercial research only" in str(caught.value)
    assert "critics.identity.accept_licence=true" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_card_holds_the_sum_and_another_sum_is_refused(critic, backbone_file):
    assert critic.card.sha256 == file_sha256(backbone_file)
    assert critic.card.name == "ArcFace, IResNet-18" and critic.card.research_only
    with pytest.raises(WeightsError, match="expected 000000000000"):
        load(backbone_file, sha256="0" * 64)


def test_nan_weights_other_networks_and_pickled_objects_are_refused(backbone, tmp_path):
    broken = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    broken["layer3.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(broken, tmp_path / "nan.pt")
    with pytest.raises(WeightsError, match="layer3.0.conv1.weight .* not finite"):
        load(tmp_path / "nan.pt")
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"groups of \(1, 0, 0, 0\) blocks"):
        load(tmp_path / "other.pt")
    del broken["features.bias"]
    torch.save(broken, tmp_path / "short.pt")
    with pytest.raises(WeightsError, match="1 tensors are missing, first features.bias"):
        load(tmp_path / "short.pt")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pt")
    with pytest.raises(WeightsError, match="not a file of tensors alone"):
        load(tmp_path / "module.pt")
    with pytest.raises(WeightsError, match="insightface/tree/master/model_zoo"):
        load(tmp_path / "nowhere.pt")


def write_onnx(path, *, scales=False, batch="batch", operator=None, side=112, width=64):
    """A small recognition network as insightface's packs are built; `scales`: as mxnet's."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}
    nodes = []

    def constant(name, *shape, low=-0.3, high=0.3):
        weights[name] = rng.uniform(low, high, shape).astype(np.float32)
        return name

    def add(kind, inputs, output, **settings):
        nodes.append(helper.make_node(kind, inputs, [output], **settings))
        return output

    x = "input.1"
    if scales:
        weights |= {"mean": np.float32([127.5]), "share": np.float32([0.0078125])}
        x = add("Mul", [add("Sub", [x, "mean"], "centred"), "share"], "scaled")
    x = add("Conv", [x, constant("w0", 8, 3, 3, 3), constant("b0", 8)], "c0",
            kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])  # fmt: skip
    x = add("PRelu", [x, constant("slope", 8, 1, 1, low=0.1)], "p0")
    narrow = add("Conv", [x, constant("w1", 8, 1, 3, 3), ""], "c1",
                 kernel_shape=[3, 3], pads=[0, 1, 1, 2], strides=[2, 2], group=8)  # fmt: skip
    norm = [constant(f"n{k}", 8, low=0.5, high=1.5) for k in range(4)]
    x = add("BatchNormalization", [narrow, *norm], "bn", epsilon=2e-5)
    x = add(operator or "Relu", [x], "r")
    x = add("AveragePool", [x], "pooled", kernel_shape=[4, 4], strides=[4, 4])
    x = add("Add", [x, constant("shift", 1, 8, 1, 1)], "shifted")
    weights["shape"] = np.array([1, -1], np.int64)
    x = add("Reshape", [x, "shape"], "flat") if batch == 1 else add("Flatten", [x], "flat")
    x = add(
        "Gemm",
        [x, constant("w2", width, 8 * (side // 16) ** 2), constant("b2", width)],
        "out",
        transB=1,
    )
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, width])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(("scales", "batch"), [(False, "batch"), (True, "batch"), (False, 1)])
def test_onnx_answers_as_its_reference_runtime_for_any_batch(tmp_path, scales, batch):
    path = write_onnx(tmp_path / "face.onnx", scales=scales, batch=batch)
    critic = load(path)
    faces = draw_faces(3)
    crops = build_arcface_warp()(faces)
    pixels = ((crops + 1) * 127.5 if scales else crops).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"input.1": one[None]})[0] for one in pixels])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(critic(faces).numpy(), expected, atol=1e-5)


def test_gradient_through_onnx_is_the_difference_of_the_answer(tmp_path):
    check_gradient(load(write_onnx(tmp_path / "face.onnx")).double(), draw_faces(1))


@pytest.mark.parametrize(
    ("side", "width", "said"),
    [
        # insightface's 2d106det.onnx and genderage.onnx, and landmarks at ArcFace's side.
        (192, 212, r"takes \(N, 3, 192, 192\); ArcFace takes \(N, 3, 112, 112\): give the recog"),
        (96, 3, r"takes \(N, 3, 96, 96\)"),
        (112, 212, r"answers \(N, 212\); ArcFace answers \(N, D\) with D one of 64, 128, 256, 512"),
        (128, 512, r"takes \(N, 3, 128, 128\)"),
    ],
)
def test_other_networks_of_faces_in_onnx_are_refused(tmp_path, side, width, said):
    with pytest.raises(WeightsError, match=said):
        load(write_onnx(tmp_path / "other.onnx", side=side, width=width))


def test_onnx_that_cannot_be_converted_or_read_is_refused_by_name(tmp_path):
    with pytest.raises(WeightsError, match="operators that are not known: Erf; known: Add, "):
        read_onnx(write_onnx(tmp_path / "odd.onnx", operator="Erf"))
    with pytest.raises(WeightsError, match="pools.onnx: its graph cannot be run .RuntimeError"):
        load(write_onnx(tmp_path / "pools.onnx", operator="GlobalAveragePool"))
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(WeightsError, match="text.onnx: not an ONNX file"):
        read_onnx(tmp_path / "text.onnx")
    path = write_onnx(tmp_path / "face.onnx")
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="elsewhere", size_threshold=0)
    with pytest.raises(WeightsError, match="keeps its weights in other files"):
        read_onnx(path)
