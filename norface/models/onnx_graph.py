"""Recognition networks in ONNX as torch modules: few operators, differentiable, any batch.

Only what networks of convolutions and matrix products are made of is known, and a graph that holds
anything else is refused: better than an answer that is subtly another one. Meaning of operators and
attributes: https://onnx.ai/onnx/operators (opset 7 to 21).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from norface.errors import WeightsError

Values = Sequence[Any]
"Inputs of an operator: tensors, or None for one that is left out."


class Operation(NamedTuple):
    """One node: its operator, the names of its inputs and outputs, its attributes."""

    kind: str
    inputs: list[str]
    output: str
    settings: dict[str, Any]


class OnnxGraph(nn.Module):
    """A graph of one input (N, ...) and one output (N, ...). Built by `read_onnx`.

    `input_shape` is what the file states, None where it leaves a size open. `scales_itself`: the
    graph begins with a subtraction, that is, it expects pixels 0..255.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        constants: Mapping[str, np.ndarray],
        *,
        input_name: str,
        output_name: str,
        input_shape: Sequence[int | None],
    ):
        super().__init__()
        self.operations = list(operations)
        self.input_name, self.output_name = input_name, output_name
        self.input_shape = tuple(input_shape)
        first = [one.kind for one in operations if input_name in one.inputs]
        self.scales_itself = bool(first) and first[0] == "Sub"
        self.buffer_of: dict[str, str] = {}
        self.plain: dict[str, list[int]] = {}
        for number, (name, value) in enumerate(constants.items()):
            if np.issubdtype(value.dtype, np.floating):
                self.buffer_of[name] = f"constant_{number}"
                tensor = torch.from_numpy(value.astype(np.float32))
                self.register_buffer(self.buffer_of[name], tensor)
            else:
                # Shapes and axes: kept off the device, so that reading them never waits for it.
                self.plain[name] = np.atleast_1d(value).astype(np.int64).tolist()
        self.last_use = {
            name: place for place, one in enumerate(self.operations) for name in one.inputs
        }

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = {self.input_name: x, "": None, **self.plain}
        values |= {name: getattr(self, buffer) for name, buffer in self.buffer_of.items()}
        for place, one in enumerate(self.operations):
            inputs = [values[name] for name in one.inputs]
            values[one.output] = OPERATORS[one.kind](inputs, one.settings)
            for name in one.inputs:
                if name and self.last_use[name] == place:
                    values.pop(name, None)
        return values[self.output_name]


def read_onnx(path: Path) -> OnnxGraph:
    """The graph of an .onnx file. Raises WeightsError for damaged files and unknown operators."""
    if importlib.util.find_spec("onnx") is None:
        raise WeightsError(f"{path}: reading it needs the package onnx; pip install onnx")
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        # Weights beside the file would be read from paths that the file itself names: refused.
        graph = onnx.load(str(path), load_external_data=False).graph
    except (DecodeError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not an ONNX file ({reason})") from None
    if any(tensor.external_data for tensor in graph.initializer):
        raise WeightsError(f"{path}: keeps its weights in other files; save it as one file")
    try:
        constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: not a whole ONNX file ({error})") from None
    operations = []
    for node in graph.node:
        settings = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Constant" and "value" in settings:
            constants[node.output[0]] = numpy_helper.to_array(settings["value"])
            continue
        operations.append(
            Operation(node.op_type, list(node.input), node.output[0], decode(settings))
        )
    unknown = sorted({one.kind for one in operations} - set(OPERATORS))
    if unknown:
        raise WeightsError(
            f"{path}: holds operators that are not known: {', '.join(unknown)}; known:"
            f" {', '.join(OPERATORS)}"
        )
    inputs = [one for one in graph.input if one.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise WeightsError(
            f"{path}: has {len(inputs)} inputs and {len(graph.output)} outputs; expected one each"
        )
    sizes = [one.dim_value or None for one in inputs[0].type.tensor_type.shape.dim]
    return OnnxGraph(
        operations,
        constants,
        input_name=inputs[0].name,
        output_name=graph.output[0].name,
        input_shape=sizes,
    )


def decode(settings: dict[str, Any]) -> dict[str, Any]:
    """Attributes with words as text."""
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in settings.items()}


def pad_for(x: Tensor, settings: Mapping[str, Any], fill: float = 0.0) -> Tensor:
    """x (N, C, H, W) with the borders that `pads` (top, left, bottom, right) asks for."""
    if settings.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise WeightsError(f"ONNX: auto_pad={settings['auto_pad']} is not known; export with pads")
    top, left, bottom, right = settings.get("pads", [0, 0, 0, 0])
    return (
        F.pad(x, [left, right, top, bottom], value=fill) if any((top, left, bottom, right)) else x
    )


def convolve(values: Values, settings: Mapping[str, Any]) -> Tensor:
    x, weight, *bias = values
    pads = settings.get("pads", [0, 0, 0, 0])
    even = list(pads[:2]) if list(pads[:2]) == list(pads[2:]) else None
    return F.conv2d(
        x if even else pad_for(x, settings),
        weight,
        bias[0] if bias else None,
        settings.get("strides", 1),
        even or 0,
        settings.get("dilations", 1),
        settings.get("group", 1),
    )


def normalize(values: Values, settings: Mapping[str, Any]) -> Tensor:
    x, weight, bias, mean, variance = values
    return F.batch_norm(x, mean, variance, weight, bias, eps=settings.get("epsilon", 1e-5))


def multiply(values: Values, settings: Mapping[str, Any]) -> Tensor:
    """Gemm: alpha A B + beta C."""
    first = values[0].mT if settings.get("transA") else values[0]
    second = values[1].mT if settings.get("transB") else values[1]
    product = settings.get("alpha", 1.0) * (first @ second)
    return product + settings.get("beta", 1.0) * values[2] if len(values) > 2 else product


def reshape(values: Values, settings: Mapping[str, Any]) -> Tensor:
    """The first size is the batch's, whatever batch the file was exported with."""
    x, shape = values
    sizes = [x.shape[k] if size == 0 and k < x.dim() else size for k, size in enumerate(shape)]
    if sizes[0] == 1 and len(sizes) > 1:
        sizes[0] = len(x)
    return x.reshape(sizes)


def flatten(values: Values, settings: Mapping[str, Any]) -> Tensor:
    axis = settings.get("axis", 1)
    if axis != 1:
        raise WeightsError(f"ONNX: Flatten with axis={axis} is not known; export with axis=1")
    return values[0].flatten(1)


def pool_most(values: Values, settings: Mapping[str, Any]) -> Tensor:
    x = pad_for(values[0], settings, -math.inf)
    return F.max_pool2d(
        x, settings["kernel_shape"], settings.get("strides", 1), ceil_mode=is_ceiling(settings)
    )


def pool_mean(values: Values, settings: Mapping[str, Any]) -> Tensor:
    if any(settings.get("pads", [0])) and not settings.get("count_include_pad"):
        raise WeightsError("ONNX: AveragePool over unpadded cells is not known; pad with 0 counted")
    x = pad_for(values[0], settings)
    return F.avg_pool2d(
        x, settings["kernel_shape"], settings.get("strides", 1), ceil_mode=is_ceiling(settings)
    )


def is_ceiling(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("ceil_mode", 0))


def clip(values: Values, settings: Mapping[str, Any]) -> Tensor:
    low = values[1] if len(values) > 1 else settings.get("min")
    high = values[2] if len(values) > 2 else settings.get("max")
    return values[0] if low is None and high is None else values[0].clamp(low, high)


def axes_of(values: Values, settings: Mapping[str, Any]) -> list[int]:
    return list(values[1] if len(values) > 1 else settings["axes"])


def reduce_by(function: Callable[..., Tensor]) -> Callable[[Values, Mapping[str, Any]], Tensor]:
    """An operator that reduces over axes."""

    def run(values: Values, settings: Mapping[str, Any]) -> Tensor:
        axes = axes_of(values, settings)
        return function(values[0], dim=axes, keepdim=bool(settings.get("keepdims", 1)))

    return run


OPERATORS: dict[str, Callable[[Values, Mapping[str, Any]], Any]] = {
    "Add": lambda values, _: values[0] + values[1],
    "AveragePool": pool_mean,
    "BatchNormalization": normalize,
    "Clip": clip,
    "Concat": lambda values, settings: torch.cat(list(values), settings["axis"]),
    "Conv": convolve,
    "Div": lambda values, _: values[0] / values[1],
    "Dropout": lambda values, _: values[0],
    "Flatten": flatten,
    "Gemm": multiply,
    "GlobalAveragePool": lambda values, _: values[0].mean((2, 3), keepdim=True),
    "Identity": lambda values, _: values[0],
    "LeakyRelu": lambda values, settings: F.leaky_relu(values[0], settings.get("alpha", 0.01)),
    "MatMul": lambda values, _: values[0] @ values[1],
    "MaxPool": pool_most,
    "Mul": lambda values, _: values[0] * values[1],
    "PRelu": lambda values, _: F.prelu(values[0], values[1].flatten()),
    "ReduceL2": reduce_by(torch.linalg.vector_norm),
    "ReduceMean": reduce_by(torch.mean),
    "ReduceSum": reduce_by(torch.sum),
    "Relu": lambda values, _: F.relu(values[0]),
    "Reshape": reshape,
    "Sigmoid": lambda values, _: values[0].sigmoid(),
    "Sqrt": lambda values, _: values[0].sqrt(),
    "Squeeze": lambda values, settings: values[0].squeeze(tuple(axes_of(values, settings))),
    "Sub": lambda values, _: values[0] - values[1],
    "Transpose": lambda values, settings: values[0].permute(settings["perm"]),
}
"Operator => what it does with (inputs, attributes)."
