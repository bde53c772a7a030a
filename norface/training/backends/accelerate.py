"""Ranks through Accelerate: DistributedDataParallel on gloo (CPU) or nccl (GPU), or one process.

The process group is made and left in plain torch. Under Accelerate's own teardown gloo sometimes
aborts after correct results, and its launcher can start world size 1 unasked; so the world that
runs is compared with the one that was asked for, here, before anything else happens.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import distributed, nn

from norface.errors import ConfigError, LaunchError
from norface.training.backends.base import Backend, BackendConfig

TORCH_ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"What a launcher sets on every rank, all or none."

_store: distributed.Store | None = None
_groups_made = 0


class AccelerateBackend(Backend):
    """See Backend. May be built again in the same process once the one before is closed.

    Raises LaunchError on a partly set environment and on another number of ranks than asked for,
    ConfigError where the device is not there.
    """

    def __init__(self, config: BackendConfig, environment: Mapping[str, str] = os.environ):
        ranked = is_launched(environment)
        found = int(environment["WORLD_SIZE"]) if ranked else 1
        check_world_size(found, config.world_size, environment.get("NORFACE_WORLD_SIZE"))
        use_cuda = choose_cuda(config.device)
        self._threads_before = torch.get_num_threads()
        self._owns_group = ranked and not distributed.is_initialized()
        if use_cuda and ranked:
            torch.cuda.set_device(int(environment["LOCAL_RANK"]))
        if self._owns_group:
            make_group("nccl" if use_cuda else "gloo", found)
        with warnings.catch_warnings():
            # Accelerate would choose a number of threads where OMP_NUM_THREADS is not set.
            warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
            self._accelerator = Accelerator(cpu=not use_cuda, mixed_precision="no")
        torch.set_num_threads(config.threads or self._threads_before)
        self.world_size = distributed.get_world_size() if distributed.is_initialized() else 1
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        self.device = self._accelerator.device
        self._bf16 = config.precision == "bf16"
        if not self.world_size == self._accelerator.num_processes == found:
            raise LaunchError(
                f"{found} ranks were started but torch counts {self.world_size} and Accelerate"
                f" {self._accelerator.num_processes}; start them with torchrun or launchers.local"
            )

    def prepare(self, model: nn.Module) -> nn.Module:
        prepared = self._accelerator.prepare_model(model)
        if self.world_size > 2 and self.device.type == "cpu":
            prepared.register_comm_hook(None, average_each_gradient)
        return prepared

    def unwrap(self, model: nn.Module) -> nn.Module:
        # Not through Accelerate, which imports DeepSpeed for it where that is installed: seconds.
        return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16)

    def backward(self, loss: torch.Tensor) -> None:
        self._accelerator.backward(loss)

    def reduce_mean(self, values: dict[str, torch.Tensor]) -> dict[str, float]:
        if not values:
            return {}
        scalars = [value.detach().to(self.device, torch.float64) for value in values.values()]
        mean = self.all_reduce_sum(torch.stack(scalars)) / self.world_size
        return dict(zip(values, mean.tolist(), strict=True))

    def all_reduce_sum(self, value: torch.Tensor) -> torch.Tensor:
        total = value.detach().clone()
        if self.world_size > 1:
            distributed.all_reduce(total)
        return total

    def gather_objects(self, value: Any) -> list[Any]:
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        distributed.all_gather_object(gathered, value)
        return gathered

    def barrier(self) -> None:
        if self.world_size > 1:
            distributed.barrier()

    def close(self) -> None:
        if self._owns_group and distributed.is_initialized():
            distributed.barrier()
        self.abandon()

    def abandon(self) -> None:
        if self._owns_group and distributed.is_initialized() and self.device.type == "cpu":
            # nccl may wait here for ranks that are gone; gloo does not, and aborts at exit without.
            distributed.destroy_process_group()
        elif self._owns_group and distributed.is_initialized():
            distributed.distributed_c10d._abort_process_group()
        self._accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        torch.set_num_threads(self._threads_before)


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


def is_launched(environment: Mapping[str, str]) -> bool:
    """Whether a launcher described this rank. Raises LaunchError when only half of it is there."""
    missing = [name for name in TORCH_ENVIRONMENT if not environment.get(name)]
    if missing and len(missing) < len(TORCH_ENVIRONMENT):
        there = [name for name in TORCH_ENVIRONMENT if name not in missing]
        raise LaunchError(
            f"{', '.join(there)} set but not {', '.join(missing)}; start ranks with torchrun or"
            " python -m launchers.local, or unset them all for one process"
        )
    return not missing


def check_world_size(found: int, configured: int | None, exported: str | None) -> None:
    """Raise LaunchError unless the ranks found are those that config and launcher asked for."""
    asked = {"backend.world_size": configured, "NORFACE_WORLD_SIZE": exported and int(exported)}
    for name, number in asked.items():
        if number is not None and number != "" and number != found:
            raise LaunchError(
                f"{name} asks for {number} ranks, found {found}; start that many (python -m"
                f" launchers.local --ranks {number} -- train ...) or change {name}"
            )


def choose_cuda(device: str) -> bool:
    """Whether to run on a GPU. Raises ConfigError when one is asked for and there is none."""
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ConfigError("backend.device: found 'cuda', but torch sees no GPU; use auto or cpu")
    return there and device != "cpu"


def make_group(kind: str, world_size: int) -> None:
    """Start the process group; the store is kept, so that a process can make one after another.

    Each group has its own prefix in the store: the addresses of the one before would be found else.
    """
    global _store, _groups_made
    if _store is None:
        _store, _, _ = next(distributed.rendezvous("env://"))
    _groups_made += 1
    store = distributed.PrefixStore(f"norface-{_groups_made}", _store)
    rank = int(os.environ["RANK"])
    distributed.init_process_group(kind, store=store, rank=rank, world_size=world_size)
