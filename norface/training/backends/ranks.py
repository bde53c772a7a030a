"""Ranks in plain torch: who this process is, its process group, and sums over ranks.

What every backend shares. The group is made and left here, not by Accelerate or DeepSpeed: under
their own teardown gloo sometimes aborts after correct results, and a launcher can start world size
1 unasked; so the world that runs is compared with the one that was asked for before anything else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed

from norface.errors import ConfigError, LaunchError
from norface.training.backends.base import Backend, BackendConfig

TORCH_ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"What a launcher sets on every rank, all or none."

_store: distributed.Store | None = None
_groups_made = 0


class RankedBackend(Backend):
    """Rank, device, reductions and the process group; a subclass says how models are trained.

    `always_group`: make a process group for a single process too. Raises LaunchError on a partly
    set environment and on another number of ranks than asked for, ConfigError where the device is
    not there.
    """

    def __init__(
        self, config: BackendConfig, environment: Mapping[str, str], *, always_group: bool = False
    ):
        ranked = is_launched(environment)
        found = int(environment["WORLD_SIZE"]) if ranked else 1
        check_world_size(found, config.world_size, environment.get("NORFACE_WORLD_SIZE"))
        self.use_cuda = choose_cuda(config.device)
        self._threads, self._threads_before = config.threads, torch.get_num_threads()
        self._owns_group = (ranked or always_group) and not distributed.is_initialized()
        if self.use_cuda and ranked:
            torch.cuda.set_device(int(environment["LOCAL_RANK"]))
        if self._owns_group:
            make_group("nccl" if self.use_cuda else "gloo", found, ranked=ranked)
        self.world_size = distributed.get_world_size() if distributed.is_initialized() else 1
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        if self.world_size != found:
            raise LaunchError(
                f"{found} ranks were started but torch counts {self.world_size}; start them with"
                " torchrun or launchers.local"
            )
        self.device = torch.device("cpu")
        if self.use_cuda:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self._bf16 = config.precision == "bf16"

    def set_threads(self) -> None:
        """The configured number of threads, or that from before: libraries like to choose one."""
        torch.set_num_threads(self._threads or self._threads_before)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16)

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
        torch.set_num_threads(self._threads_before)


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


def make_group(kind: str, world_size: int, *, ranked: bool = True) -> None:
    """Start the process group; the store is kept, so that a process can make one after another.

    Each group has its own prefix in the store: the addresses of the one before would be found else.
    A process that no launcher started (`ranked` false) is a group of its own.
    """
    global _store, _groups_made
    if not ranked:
        distributed.init_process_group(
            kind, store=distributed.HashStore(), rank=0, world_size=world_size
        )
        return
    if _store is None:
        _store, _, _ = next(distributed.rendezvous("env://"))
    _groups_made += 1
    store = distributed.PrefixStore(f"norface-{_groups_made}", _store)
    rank = int(os.environ["RANK"])
    distributed.init_process_group(kind, store=store, rank=rank, world_size=world_size)
