"""Ranks through DeepSpeed: one ZeRO engine a network, in one process group, on gloo or nccl.

DeepSpeed writes and reads no file here: weights and optimizer states are gathered from its engines
into the form that torch has, so that a checkpoint holds the same whatever wrote it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import distributed, nn
from torch.utils import _pytree as pytree

from norface.errors import ConfigError
from norface.training.backends.base import BackendConfig, Descent
from norface.training.backends.ranks import RankedBackend, choose_cuda
from norface.training.backends.refusals import refuse_in_bf16
from norface.training.backends.zero_descent import StageZeroDescent, ZeroDescent, copy_part
from norface.training.backends.zero_settings import read_settings


class DeepSpeedBackend(RankedBackend):
    """See Backend. May be built again in the same process once the one before is closed.

    Raises ConfigError where DeepSpeed is not installed or its settings contradict the run's.
    """

    def __init__(self, config: BackendConfig, environment: Mapping[str, str] = os.environ):
        self.settings = read_settings(config)
        self.zero_stage: int = self.settings["zero_optimization"]["stage"]
        self._weights_bf16 = config.weights == "bf16"
        self._deepspeed = load_deepspeed(cuda=choose_cuda(config.device))
        self._models: list[EngineModule] = []
        self._resting = False
        super().__init__(config, environment, always_group=True)
        # As long as the engines live: stage 3 asks for it in every step.
        self._local_rank = contextlib.ExitStack()
        self._local_rank.enter_context(local_rank_set())
        self._deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        self.set_threads()

    @property
    def splits_weights(self) -> bool:
        """Whether a bare network holds less than its weights: parts, or rounded copies."""
        return self.zero_stage == 3 or self._weights_bf16

    def prepare(self, model: nn.Module) -> nn.Module:
        if self._weights_bf16:
            refuse_in_bf16(model)
        model = model.to(self.device)
        for parameter in model.parameters():
            # It sends them as bytes and flattens them, so channels_last does not survive anyway.
            # (`contiguous()` would leave the strides of sides of length 1 as they are.)
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        return EngineModule(model, copy.deepcopy(model) if self.splits_weights else None)

    def prepare_optimizer(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, *, clip_norm: float | None = None
    ) -> Descent:
        assert isinstance(model, EngineModule)
        groups = [list(group["params"]) for group in optimizer.param_groups]
        # At stage 0 the gradients are whole and clipped here, as under any other backend.
        limit = clip_norm if clip_norm is not None and self.zero_stage > 0 else 0.0
        inside = InCallersAutocast(model.module, self.device.type)
        engine, *_ = self._deepspeed.initialize(
            model=inside,
            optimizer=optimizer,
            config={**copy.deepcopy(self.settings), "gradient_clipping": limit},
        )
        self.set_threads()
        model.__dict__.update(engine=engine, inside=inside)
        self._models.append(model)
        if self.zero_stage == 0:
            return StageZeroDescent(engine, clip_norm)
        return ZeroDescent(
            engine, groups, split=self.zero_stage == 3, rank=self.rank, clips=clip_norm is not None
        )

    def unwrap(self, model: nn.Module) -> nn.Module:
        assert isinstance(model, EngineModule)
        return model.module

    def whole(self, model: nn.Module) -> nn.Module:
        assert isinstance(model, EngineModule)
        if model.shadow is None:
            return model.module
        if not self._resting:
            self._refresh(model)
        return model.shadow

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        for model in self._models if self.splits_weights else []:
            self._refresh(model)
        before, self._resting = self._resting, True
        try:
            yield
        finally:
            self._resting = before

    @torch.no_grad()
    def _refresh(self, model: EngineModule) -> None:
        """Bring the shadow up to date, one parameter at a time. Parameters that are not trained
        never change, and in bf16 the shadow's constants are the better ones."""
        from deepspeed.utils import safe_get_full_fp32_param

        assert model.shadow is not None
        for live, copied in zip(model.module.parameters(), model.shadow.parameters(), strict=True):
            if live.requires_grad:
                copied.copy_(safe_get_full_fp32_param(live))
        for buffer, kept in zip(model.module.buffers(), model.shadow.buffers(), strict=True):
            if buffer.dtype == kept.dtype:
                kept.copy_(buffer)

    @torch.no_grad()
    def load_weights(self, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        from deepspeed.utils import safe_get_local_fp32_param, safe_set_full_fp32_param

        assert isinstance(model, EngineModule)
        if model.shadow is not None:
            model.shadow.load_state_dict(weights)
        if self.zero_stage < 3:
            model.module.load_state_dict(weights)
            for name, live in model.module.named_parameters():
                if live.requires_grad and self.zero_stage > 0:
                    safe_set_full_fp32_param(live, weights[name].to(self.device, torch.float32))
            return
        for name, buffer in model.module.named_buffers():
            if name in weights:
                buffer.copy_(weights[name])
        for name, live in model.module.named_parameters():
            value = weights[name].to(self.device, torch.float32)
            with self._deepspeed.zero.GatheredParameters([live], modifier_rank=0):
                if self.is_main:
                    live.copy_(value)
            if live.requires_grad:
                copy_part(safe_get_local_fp32_param(live), value, self.rank)

    def abandon(self) -> None:
        for model in self._models:
            model.engine.destroy()
        self._models.clear()
        self._local_rank.close()
        super().abandon()
        forget_group(self._deepspeed)


class EngineModule(nn.Module):
    """A network whose calls go through its engine.

    `shadow`: a plain copy that the whole weights are gathered into, where the network holds less.
    """

    module: nn.Module
    shadow: nn.Module | None
    engine: Any
    inside: Any

    def __init__(self, module: nn.Module, shadow: nn.Module | None):
        super().__init__()
        self.module = module
        # Not as children: their parameters are the module's, or nobody's.
        self.__dict__.update(engine=None, inside=None, shadow=shadow)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """As the network. Tensors come back as aliases: DeepSpeed hangs a hook on its outputs that
        starts its backward pass, which a gradient in an output alone must not run into."""
        self.inside.use_autocast()
        if self.training:
            self._share_buffers()
        found = self.engine(*inputs, **named)
        return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.view_as(tensor), found)

    def _share_buffers(self) -> None:
        """Rank 0's buffers on all ranks, as DistributedDataParallel does before each step."""
        if distributed.get_world_size() > 1:
            for buffer in self.module.buffers():
                distributed.broadcast(buffer, 0)


class InCallersAutocast(nn.Module):
    """A network in the autocast of whoever calls it, which engines switch off on GPUs."""

    def __init__(self, module: nn.Module, device_type: str):
        super().__init__()
        self.module, self.device_type, self.enabled = module, device_type, False

    def use_autocast(self) -> None:
        """Take over the caller's choice."""
        self.enabled = torch.is_autocast_enabled(self.device_type)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """As the network."""
        with torch.autocast(self.device_type, dtype=torch.bfloat16, enabled=self.enabled):
            return self.module(*inputs, **named)


def load_deepspeed(*, cuda: bool) -> Any:
    """The module, told which device to use, without its own compiled operators.

    Raises ConfigError where it is not installed, or already runs on the other kind of device.
    """
    wanted = "cuda" if cuda else "cpu"
    os.environ.setdefault("DS_ACCELERATOR", wanted)
    try:
        import deepspeed
    except ImportError:
        raise ConfigError(
            "backend.kind: 'deepspeed' is not installed; pip install norface[deepspeed], or use"
            " accelerate"
        ) from None
    from deepspeed.accelerator import get_accelerator

    if get_accelerator().device_name() != wanted:
        raise ConfigError(
            f"backend.device: DeepSpeed runs on {get_accelerator().device_name()} in this process"
            f" (DS_ACCELERATOR), this run on {wanted}; start it on its own"
        )
    # Its shared-memory operator serves inference only; building it takes a compiler and a minute.
    deepspeed.ops.__dict__.setdefault("__compatible_ops__", {})
    deepspeed.utils.logger.setLevel("ERROR")
    # It calls torch by names that torch is about to drop.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    return deepspeed


@contextlib.contextmanager
def local_rank_set() -> Iterator[None]:
    """DeepSpeed insists on LOCAL_RANK, which a process that no launcher started does not have."""
    missing = "LOCAL_RANK" not in os.environ
    if missing:
        os.environ["LOCAL_RANK"] = "0"
    try:
        yield
    finally:
        if missing:
            del os.environ["LOCAL_RANK"]


def forget_group(deepspeed: Any) -> None:
    """Let the next engine of this process find the next process group."""
    from deepspeed.utils import groups

    deepspeed.comm.comm.cdb = None
    groups._release_process_group_references(group=None)
