"""Ranks through Accelerate: DistributedDataParallel on gloo (CPU) or nccl (GPU), or one process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

from norface.errors import LaunchError
from norface.training.backends.base import BackendConfig, Descent
from norface.training.backends.ranks import RankedBackend

if TYPE_CHECKING:
    from accelerate import Accelerator


class AccelerateBackend(RankedBackend):
    """See Backend. May be built again in the same process once the one before is closed."""

    def __init__(self, config: BackendConfig, environment: Mapping[str, str] = os.environ):
        super().__init__(config, environment)
        if not torch.cuda.is_available():
            # Accelerate imports DeepSpeed where it is installed, which else says on every rank that
            # it found no GPU.
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        from accelerate import Accelerator, DistributedDataParallelKwargs

        self._wrapping = DistributedDataParallelKwargs(
            static_graph=config.static_graph, gradient_as_bucket_view=True
        )
        with warnings.catch_warnings():
            # Accelerate would choose a number of threads where OMP_NUM_THREADS is not set.
            warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
            self._accelerator = Accelerator(
                cpu=not self.use_cuda,
                mixed_precision="no",
                kwargs_handlers=[self._wrapping],
            )
        self.set_threads()
        self.device = self._accelerator.device
        if self.world_size != self._accelerator.num_processes:
            raise LaunchError(
                f"{self.world_size} ranks were started but Accelerate counts"
                f" {self._accelerator.num_processes}; start them with torchrun or launchers.local"
            )

    def prepare(self, model: nn.Module) -> nn.Module:
        # What no pass changes need not be sent before each of them: only running averages change.
        self._wrapping.broadcast_buffers = any(
            isinstance(part, nn.modules.batchnorm._BatchNorm)
            and any(weight.requires_grad for weight in part.parameters())
            for part in model.modules()
        )
        with warnings.catch_warnings():
            # Newer versions of torch call it forward_sync_buffers; 2.11 knows only this name.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers")
            prepared = self._accelerator.prepare_model(model)
        if self.world_size > 2 and self.device.type == "cpu":
            prepared.register_comm_hook(None, average_each_gradient)
        return prepared

    def prepare_optimizer(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, *, clip_norm: float | None = None
    ) -> Descent:
        return PlainDescent(optimizer, self._accelerator, clip_norm)

    def unwrap(self, model: nn.Module) -> nn.Module:
        # Not through Accelerate, which imports DeepSpeed for it where that is installed: seconds.
        return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model

    def abandon(self) -> None:
        from accelerate.state import AcceleratorState, GradientState

        super().abandon()
        self._accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


class PlainDescent(Descent):
    """A torch optimizer on whole weights."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, accelerator: Accelerator, clip_norm: float | None
    ):
        self._optimizer, self._accelerator, self._clip_norm = optimizer, accelerator, clip_norm

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._optimizer.param_groups

    def descend(self, loss: torch.Tensor) -> torch.Tensor | None:
        self._optimizer.zero_grad(set_to_none=True)
        self._accelerator.backward(loss)
        norm = None
        if self._clip_norm is not None:
            trained = [p for group in self.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(trained, self._clip_norm)
        self._optimizer.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state)


def average_each_gradient(_state, bucket):  # type: ignore[no-untyped-def]
    """Mean over ranks, one parameter at a time.

    DistributedDataParallel regroups its buckets after the first step of a process, and gloo adds
    the parts of a buffer in an order that depends on their place in it. From three ranks on a
    resumed run would so differ from an uninterrupted one in the last bit. (No annotations here:
    torch compares them with its types, and refuses the strings that they are in this file.)
    """
    gradients = bucket.gradients()
    sums = [distributed.all_reduce(gradient, async_op=True) for gradient in gradients]
    all_sums = torch.futures.collect_all([work.get_future() for work in sums])
    return all_sums.then(lambda _: bucket.buffer().div_(distributed.get_world_size()))
