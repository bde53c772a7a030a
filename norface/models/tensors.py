"""Tensors out of weights files, whoever wrote them, and into a network."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from norface.errors import WeightsError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNUSED = "num_batches_tracked"
"A counter of batch normalization that no frozen network needs; old files lack it."


def read_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """Tensors by name of a .safetensors, or of a .pt / .pth that torch saved; on the CPU.

    Of a training state the `state_dict` is taken, and the `module.` that data parallel training
    puts before every name is cut off. Nothing but tensors is unpickled. `what` names the network in
    errors. Raises WeightsError.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path}: not the weights of {what} (not a file of tensors alone); where you trust it,"
            " save its network's state_dict() as .safetensors"
        ) from None
    except Exception as error:
        # What a damaged pickle ends in is whatever its bytes happen to ask for.
        reason = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not the weights of {what} ({reason})") from None
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items()
    ):
        raise WeightsError(f"{path}: not the weights of {what} (holds no tensors by name)")
    if found and all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return {name: t.float() if t.is_floating_point() else t for name, t in found.items()}


def fill_network(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Give a network its tensors, every one of them. Raises WeightsError naming what differs."""
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.endswith(UNUSED)]
    extra = [name for name in tensors if name not in wanted]
    reason = ""
    if missing:
        reason = f"{len(missing)} tensors are missing, first {missing[0]}"
    elif extra:
        reason = f"{len(extra)} tensors have no place, first {extra[0]}"
    for name, tensor in tensors.items():
        if not reason and tensor.shape != wanted[name].shape:
            reason = f"{name} is {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
    if reason:
        raise WeightsError(f"{path}: not the weights of {what} ({reason})")
    network.load_state_dict(tensors, strict=False)


class Standardize(nn.Module):
    """images (N, 3, H, W), -1..1 => what weights expect that saw (0..1 - mean) / std."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD):
        super().__init__()
        means, spreads = torch.tensor(mean), torch.tensor(std)
        self.register_buffer("scale", (0.5 / spreads).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", ((0.5 - means) / spreads).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def at_least_single(tensor: Tensor) -> Tensor:
    """fp32 for half precision; fp32 and fp64 stay."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
