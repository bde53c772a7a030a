"""A small reader of TFLite files: the graph in the file => a differentiable torch module.

It knows the float operations that Google's face networks are made of, computes in float32 and
keeps the file's layout (N, H, W, C); a graph holding another operation is refused by its name.
The flatbuffer's schema comes from the package `tflite` (extra `faces`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from norface.errors import WeightsError

_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64}
"TensorType of the schema => numpy type, as far as weights and shapes need them."
_ACTIVATIONS: dict[int, Callable[[Tensor], Tensor]] = {
    0: lambda x: x,
    1: F.relu,
    3: F.relu6,
}
"ActivationFunctionType of the schema."


@dataclasses.dataclass(frozen=True)
class Operation:
    """One node: its kind, the numbers of the tensors it reads and writes, its settings."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    settings: dict[str, Any]


class TFLiteGraph(nn.Module):
    """The graph of one TFLite file, built for a batch of one as the file was.

    graph = TFLiteGraph(data, "face_detector.tflite")
    regressors, classifiers = graph(picture)     # (1, 128, 128, 3) => list of tensors

    Weights are buffers, so `.to(device)` works and nothing is trainable. Convolutional graphs take
    N samples as they are; `graph.batched` takes N samples through any graph. Raises WeightsError
    for what is no TFLite file or holds an unknown operation.
    """

    def __init__(self, data: bytes, name: str):
        super().__init__()
        self.name = name
        self.operations: list[Operation] = []
        self.integers: dict[int, list[int]] = {}
        try:
            self._read(data)
        except WeightsError:
            raise
        except Exception as error:
            # flatbuffers reports damage as whatever its byte arithmetic happens to hit.
            raise WeightsError(f"{name}: not a readable TFLite file ({error!r})") from None

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Inputs in the file's order and shapes => outputs in the file's order."""
        values: dict[int, Any] = dict(zip(self.input_numbers, inputs, strict=True))
        for name, tensor in self.named_buffers():
            values[int(name.removeprefix("tensor_"))] = tensor
        for operation in self.operations:
            arguments = [
                self.integers[number] if number in self.integers else values[number]
                for number in operation.inputs
            ]
            values[operation.outputs[0]] = _RUN[operation.kind](operation.settings, *arguments)
        return [values[number] for number in self.output_numbers]

    def batched(self, inputs: Tensor) -> list[Tensor]:
        """(N, ...) => outputs, each with N in place of the file's batch of one."""
        return torch.vmap(lambda one: self(one[None]))(inputs)

    def _read(self, data: bytes) -> None:
        import tflite

        if data[4:8] != b"TFL3":
            raise WeightsError(f"{self.name}: not a TFLite file")
        model = tflite.Model.GetRootAs(data, 0)
        graph = model.Subgraphs(0)
        self.input_numbers = [int(number) for number in graph.InputsAsNumpy()]
        self.output_numbers = [int(number) for number in graph.OutputsAsNumpy()]
        kinds = {value: key for key, value in vars(tflite.BuiltinOperator).items() if key.isupper()}
        constants = _read_constants(model, graph, self.name)
        for position in range(graph.OperatorsLength()):
            node = graph.Operators(position)
            code = model.OperatorCodes(node.OpcodeIndex())
            kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            inputs = tuple(int(number) for number in node.InputsAsNumpy())
            outputs = tuple(int(number) for number in node.OutputsAsNumpy())
            if kind == "DEQUANTIZE" and inputs[0] in constants:
                # Weights are stored as float16; widen them once, here.
                constants[outputs[0]] = constants[inputs[0]].astype(np.float32)
                continue
            if kind not in _RUN:
                raise WeightsError(f"{self.name}: operation {kind} is not supported by this reader")
            settings = _read_settings(node, kind)
            if kind == "RESHAPE":
                # The wanted shape is an input or an option, as the writer liked: the result has it.
                inputs = inputs[:1]
                first, *rest = graph.Tensors(outputs[0]).ShapeAsNumpy().tolist()
                settings["Shape"] = [-1 if first == 1 else first, *rest]
            self.operations.append(Operation(kind, inputs, outputs, settings))
        used = {number for operation in self.operations for number in operation.inputs}
        for number in sorted(used & constants.keys()):
            value = constants[number]
            if value.dtype.kind == "i":
                self.integers[number] = value.ravel().tolist()
            else:
                self.register_buffer(f"tensor_{number}", torch.tensor(value.astype(np.float32)))


def _read_constants(model: Any, graph: Any, name: str) -> dict[int, np.ndarray]:
    """Tensor number => value, for every tensor that has its bytes in the file."""
    constants = {}
    for number in range(graph.TensorsLength()):
        tensor = graph.Tensors(number)
        buffer = model.Buffers(tensor.Buffer())
        if not buffer.DataLength():
            continue
        quantization = tensor.Quantization()
        if tensor.Type() not in _DTYPES or (quantization and quantization.ScaleLength()):
            raise WeightsError(f"{name}: quantized weights are not supported by this reader")
        value = np.frombuffer(buffer.DataAsNumpy().tobytes(), _DTYPES[tensor.Type()])
        constants[number] = value.reshape(tensor.ShapeAsNumpy() if tensor.ShapeLength() else ())
    return constants


_CONVOLUTION = (
    *("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor"),
    "FusedActivationFunction",
)
_POOLING = (
    "Padding",
    "StrideH",
    "StrideW",
    "FilterHeight",
    "FilterWidth",
    "FusedActivationFunction",
)
_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": ("Conv2DOptions", _CONVOLUTION),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _CONVOLUTION),
    "MAX_POOL_2D": ("Pool2DOptions", _POOLING),
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "DIV": ("DivOptions", ("FusedActivationFunction",)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "SUM": ("ReducerOptions", ("KeepDims",)),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask"),
    ),
}
"Kind => the schema's table of settings and the fields that matter here."


def _read_settings(node: Any, kind: str) -> dict[str, Any]:
    if kind not in _OPTIONS:
        return {}
    import tflite

    table, fields = _OPTIONS[kind]
    options = getattr(tflite, table)()
    raw = node.BuiltinOptions()
    options.Init(raw.Bytes, raw.Pos)
    return {field: int(getattr(options, field)()) for field in fields}


def _pad_same(
    x: Tensor, settings: dict[str, int], kernel: tuple[int, int], *, fill: float
) -> Tensor:
    """TensorFlow's SAME padding of (N, C, H, W): the odd pixel goes below and to the right."""
    if settings["Padding"] == 1:
        return x
    amounts = []
    for axis, name in ((1, "W"), (0, "H")):
        size, stride = x.shape[2 + axis], settings[f"Stride{name}"]
        reach = (kernel[axis] - 1) * settings.get(f"Dilation{name}Factor", 1) + 1
        total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts, value=fill) if any(amounts) else x


def _convolve(settings: dict[str, int], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (N, H, W, C), weight (out, kh, kw, C)."""
    return _convolve_grouped(settings, x, weight.permute(0, 3, 1, 2), bias, groups=1)


def _convolve_depthwise(
    settings: dict[str, int], x: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """x (N, H, W, C), weight (1, kh, kw, C * multiplier)."""
    return _convolve_grouped(settings, x, weight.permute(3, 0, 1, 2), bias, groups=x.shape[-1])


def _convolve_grouped(
    settings: dict[str, int], x: Tensor, weight: Tensor, bias: Tensor, *, groups: int
) -> Tensor:
    planes = _pad_same(
        x.permute(0, 3, 1, 2), settings, (weight.shape[2], weight.shape[3]), fill=0.0
    )
    stride = settings["StrideH"], settings["StrideW"]
    dilation = settings["DilationHFactor"], settings["DilationWFactor"]
    planes = F.conv2d(planes, weight, bias, stride, 0, dilation, groups)
    return _activate(settings, planes.permute(0, 2, 3, 1))


def _pool(settings: dict[str, int], x: Tensor) -> Tensor:
    kernel = settings["FilterHeight"], settings["FilterWidth"]
    planes = _pad_same(x.permute(0, 3, 1, 2), settings, kernel, fill=-math.inf)
    planes = F.max_pool2d(planes, kernel, (settings["StrideH"], settings["StrideW"]))
    return _activate(settings, planes.permute(0, 2, 3, 1))


def _activate(settings: dict[str, int], x: Tensor) -> Tensor:
    code = settings["FusedActivationFunction"]
    if code not in _ACTIVATIONS:
        raise WeightsError(f"fused activation {code} is not supported by this reader")
    return _ACTIVATIONS[code](x)


def _slice(
    settings: dict[str, int], x: Tensor, begin: list[int], end: list[int], strides: list[int]
) -> Tensor:
    """STRIDED_SLICE without ellipsis and new axes; strides are positive."""
    if settings["EllipsisMask"] or settings["NewAxisMask"]:
        raise WeightsError("a slice with an ellipsis or a new axis is not supported by this reader")
    picks: list[slice | int] = []
    for axis, (first, last, stride) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << axis
        if settings["ShrinkAxisMask"] & bit:
            picks.append(first)
            continue
        start = None if settings["BeginMask"] & bit else first
        picks.append(slice(start, None if settings["EndMask"] & bit else last, stride))
    return x[tuple(picks)]


def _pad(_: dict[str, int], x: Tensor, amounts: list[int]) -> Tensor:
    """PAD: (before, after) of every axis, first axis first; torch wants the last axis first."""
    pairs = [amounts[i : i + 2] for i in range(0, len(amounts), 2)]
    return F.pad(x, [amount for pair in reversed(pairs) for amount in pair])


_RUN: dict[str, Callable[..., Tensor]] = {
    "CONV_2D": _convolve,
    "DEPTHWISE_CONV_2D": _convolve_depthwise,
    "MAX_POOL_2D": _pool,
    "PAD": _pad,
    "STRIDED_SLICE": _slice,
    "ADD": lambda settings, a, b: _activate(settings, a + b),
    "SUB": lambda settings, a, b: _activate(settings, a - b),
    "MUL": lambda settings, a, b: _activate(settings, a * b),
    "DIV": lambda settings, a, b: _activate(settings, a / b),
    "NEG": lambda _, x: -x,
    "SQRT": lambda _, x: x.sqrt(),
    "RSQRT": lambda _, x: x.rsqrt(),
    "SQUARED_DIFFERENCE": lambda _, a, b: (a - b) ** 2,
    "RELU": lambda _, x: F.relu(x),
    "PRELU": lambda _, x, slope: torch.where(x >= 0, x, slope * x),
    "LOGISTIC": lambda _, x: x.sigmoid(),
    "RESHAPE": lambda settings, x: x.reshape(settings["Shape"]),
    "TRANSPOSE": lambda _, x, order: x.permute(order),
    "CONCATENATION": lambda settings, *xs: _activate(settings, torch.cat(xs, settings["Axis"])),
    "MEAN": lambda settings, x, axes: x.mean(axes, keepdim=bool(settings["KeepDims"])),
    "SUM": lambda settings, x, axes: x.sum(axes, keepdim=bool(settings["KeepDims"])),
}
"Kind => settings and arguments to result; integer arguments come as lists."
