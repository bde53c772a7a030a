"""Backend: the little that stages and trainer need to know of processes and devices."""

from __future__ import annotations

import abc
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from norface.config import Config

if TYPE_CHECKING:
    import torch
    from torch import nn


class BackendConfig(Config):
    """Processes, device and precision."""

    kind: Literal["accelerate"] = "accelerate"
    "What runs the ranks: accelerate = DistributedDataParallel through Accelerate."
    device: Literal["auto", "cpu", "cuda"] = "auto"
    "auto = cuda where there is one."
    precision: Literal["fp32", "bf16"] = "fp32"
    "bf16 = autocast of the forward passes; weights and optimizers stay fp32."
    world_size: int | None = Field(None, gt=0)
    "Ranks that the job asked for; another number is refused. null = not checked here."
    threads: int | None = Field(None, gt=0)
    "CPU threads a rank; null = torch's own choice."


class Backend(abc.ABC):
    """Rank, device, wrapping and reduction. One instance a process and run; `close` it after."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @abc.abstractmethod
    def prepare(self, model: nn.Module) -> nn.Module:
        """Move a trainable model to the device and wrap it so that backward averages gradients."""

    @abc.abstractmethod
    def unwrap(self, model: nn.Module) -> nn.Module:
        """The bare model inside a prepared one."""

    @abc.abstractmethod
    def autocast(self) -> AbstractContextManager[Any]:
        """Context of the forward pass in the configured precision."""

    @abc.abstractmethod
    def backward(self, loss: torch.Tensor) -> None:
        """Backward pass through prepared models."""

    @abc.abstractmethod
    def reduce_mean(self, values: dict[str, torch.Tensor]) -> dict[str, float]:
        """Mean over ranks of scalars; all ranks call it with the same names in the same order."""

    @abc.abstractmethod
    def all_reduce_sum(self, value: torch.Tensor) -> torch.Tensor:
        """Sum over ranks of a tensor, without gradient."""

    def gather_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (B, ...) of every rank => (world_size x B, ...) on all ranks, with gradient.

        For a loss over the global batch that every rank computes alike (see collectives.py).
        """
        from norface.training.backends.collectives import gather_rows

        return gather_rows(rows, rank=self.rank, world_size=self.world_size)

    @abc.abstractmethod
    def gather_objects(self, value: Any) -> list[Any]:
        """Every rank's value (numbers, strings, lists, arrays), in rank order, on all ranks."""

    @abc.abstractmethod
    def barrier(self) -> None:
        """Wait for all ranks."""

    @abc.abstractmethod
    def close(self) -> None:
        """Leave the process group (if this backend made it), so that the process ends with 0."""

    @abc.abstractmethod
    def abandon(self) -> None:
        """Leave after a failure: as `close`, but without waiting for the other ranks."""


def build_backend(config: BackendConfig) -> Backend:
    """The backend that the config names, started. Raises LaunchError on another world size."""
    from norface.training.backends.accelerate import AccelerateBackend

    return AccelerateBackend(config)
