"""Backend: the little that stages and trainer need to know of processes and devices."""

from __future__ import annotations

import abc
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from norface.config import Config, Misfit

if TYPE_CHECKING:
    import torch
    from torch import nn


class BackendConfig(Config):
    """Processes, device and precision. docs/backends.md says which to choose."""

    kind: Literal["accelerate", "deepspeed"] = "accelerate"
    "accelerate = DistributedDataParallel; deepspeed = one ZeRO engine a network."
    device: Literal["auto", "cpu", "cuda"] = "auto"
    "auto = cuda where there is one."
    precision: Literal["fp32", "bf16"] = "fp32"
    "bf16 = autocast of the forward passes; weights and optimizers stay fp32."
    world_size: int | None = Field(None, gt=0)
    "Ranks that the job asked for; another number is refused. null = not checked here."
    threads: int | None = Field(None, gt=0)
    "CPU threads a rank; null = torch's own choice."
    zero_stage: int | None = Field(None, ge=0, le=3)
    """deepspeed: what is split over the ranks: 0 nothing, 1 optimizer states, 2 gradients too,
    3 weights too. null = what `deepspeed` says, or 1."""
    deepspeed: Path | None = None
    "deepspeed: a json of DeepSpeed's own settings, as configs/deepspeed/zero2.json; null = none."
    weights: Literal["fp32", "bf16"] = "fp32"
    """deepspeed with precision bf16: what is computed with and sent. bf16 halves memory and traffic
    of weights and gradients; fp32 masters stay in the optimizer, and checkpoints hold those."""
    static_graph: bool = False
    "accelerate: promise torch that every step has the same graph; a little faster, never checked."

    @model_validator(mode="after")
    def _check_kind(self) -> BackendConfig:
        deepspeed = self.kind == "deepspeed"
        if not deepspeed and (self.zero_stage is not None or self.deepspeed is not None):
            name = "zero_stage" if self.zero_stage is not None else "deepspeed"
            raise Misfit(f"'.{name}': only for '.kind' deepspeed")
        if deepspeed and self.static_graph:
            raise Misfit(
                "'.static_graph': a promise to DistributedDataParallel; only for '.kind' accelerate"
            )
        if self.weights == "bf16" and not (deepspeed and self.precision == "bf16"):
            raise Misfit("'.weights': bf16 only with '.kind' deepspeed and '.precision' bf16")
        return self


class Descent(abc.ABC):
    """Turns losses into steps of one prepared model. From Backend.prepare_optimizer."""

    @property
    @abc.abstractmethod
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups, whose rates (`lr`) may be set before each step."""

    @abc.abstractmethod
    def descend(self, loss: torch.Tensor) -> torch.Tensor | None:
        """Backward pass and one step; the gradient's norm before clipping, where it is clipped."""

    @abc.abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """State of the whole optimizer in torch's form. All ranks call it; complete on rank 0."""

    @abc.abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave, on any backend. All ranks call it with the whole."""


class Backend(abc.ABC):
    """Rank, device, wrapping and reduction. One instance a process and run; `close` it after."""

    rank: int
    world_size: int
    device: torch.device
    zero_stage: int = 0
    "Split over the ranks: 0 nothing, 1 optimizer states, 2 gradients too, 3 weights too."

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @abc.abstractmethod
    def prepare(self, model: nn.Module) -> nn.Module:
        """Move a trainable model to the device and wrap it so that descending averages gradients.

        Call the result in a training step. `prepare_optimizer` must follow before that.
        """

    @abc.abstractmethod
    def prepare_optimizer(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, *, clip_norm: float | None = None
    ) -> Descent:
        """What takes steps of a prepared model, whose parameters `optimizer` was built on.

        Gradients are scaled down to `clip_norm`; None = never.
        """

    @abc.abstractmethod
    def unwrap(self, model: nn.Module) -> nn.Module:
        """The bare model inside a prepared one, to ask within a step without training it.

        Its parameters may be split over ranks: outside of a step use `whole`.
        """

    def whole(self, model: nn.Module) -> nn.Module:
        """A bare model with all weights of a prepared one, as of now; not to be changed.

        All ranks call it together, but need not inside of `at_rest`.
        """
        return self.unwrap(model)

    def at_rest(self) -> AbstractContextManager[Any]:
        """All ranks enter it; inside nothing is trained, and `whole` needs no other rank."""
        return nullcontext()

    def load_weights(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        """Give a prepared model the weights of `whole(...).state_dict()`. All ranks call it."""
        self.unwrap(model).load_state_dict(weights)

    @abc.abstractmethod
    def autocast(self) -> AbstractContextManager[Any]:
        """Context of the forward pass in the configured precision."""

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
    """The backend that the config names, started.

    Raises LaunchError on another world size, ConfigError on what cannot work.
    """
    if config.kind == "deepspeed":
        from norface.training.backends.deepspeed import DeepSpeedBackend

        return DeepSpeedBackend(config)
    from norface.training.backends.accelerate import AccelerateBackend

    return AccelerateBackend(config)
