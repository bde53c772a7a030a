"""A GPU that is not there: torch's fake tensors have its device, shapes and types, but no numbers.

An operation on tensors of two devices fails as on a real one. What asks for a number (`.item()`,
`.tolist()`: a real GPU would be waited for) fails too. Backward passes need the real driver.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from norface.training.backends.accelerate import AccelerateBackend, PlainDescent

GPU = torch.device("cuda", 0)


class PretendedGPU:
    """Moves what was built on the CPU; inside `mode` it is computed with.

    Tensors below `norface` objects are moved wherever they lie, but in a module only parameters and
    buffers: what `module.to(device)` leaves behind stays on the CPU here too.
    """

    def __init__(self) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._moved: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._seen: dict[int, Any] = {}

    def move(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor's like on the GPU, the same one each time."""
        if id(tensor) not in self._moved:
            with self.mode:
                moved: torch.Tensor = self.mode.from_tensor(tensor.detach()).to(GPU)
                if isinstance(tensor, nn.Parameter):
                    moved = nn.Parameter(moved, requires_grad=tensor.requires_grad)
            self._moved[id(tensor)] = (moved, tensor)
        return self._moved[id(tensor)][0]

    def take(self, value: Any) -> None:
        """Move all that an object holds."""
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, nn.Module):
            for module in value.modules():
                for held in (module._parameters, module._buffers):
                    held |= {name: self.move(one) for name, one in held.items() if one is not None}
        elif isinstance(value, dict):
            self._take_items(value)
        elif isinstance(value, list | tuple):
            for one in value:
                self.take(one)
        elif hasattr(value, "__dict__") and type(value).__module__.startswith("norface"):
            self._take_items(vars(value))

    def _take_items(self, items: dict[Any, Any]) -> None:
        for name, one in items.items():
            if isinstance(one, torch.Tensor):
                items[name] = self.move(one)
            else:
                self.take(one)


class PretendedBackend(AccelerateBackend):
    """One rank whose reductions refuse what is not on its device, as nccl does."""

    def all_reduce_sum(self, value: torch.Tensor) -> torch.Tensor:
        assert value.device == self.device
        return value.detach().clone()

    def gather_rows(self, rows: torch.Tensor) -> torch.Tensor:
        assert rows.device == self.device
        return rows


def skip_backward(monkeypatch) -> None:
    """Leave out backward passes and steps of optimizers, but not a loss on another device."""

    def descend(self: PlainDescent, loss: torch.Tensor) -> None:
        assert loss.device == GPU and loss.requires_grad

    def grad(outputs: torch.Tensor, inputs: Any, **_: Any) -> tuple[torch.Tensor, ...]:
        assert outputs.device == GPU
        return tuple(map(torch.zeros_like, [inputs] if torch.is_tensor(inputs) else inputs))

    monkeypatch.setattr(PlainDescent, "descend", descend)
    monkeypatch.setattr(torch.autograd, "grad", grad)
