"""Steps of a ZeRO engine, and its optimizer's state in torch's form.

An engine keeps each moment of Adam as flat pieces, one a rank. Gathered into a tensor a parameter
they are what torch's own optimizer would hold, which every backend and number of ranks can read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed, nn

from norface.errors import CheckpointError
from norface.training.backends.base import Descent


class StageZeroDescent(Descent):
    """An engine that splits nothing: whole gradients and a plain torch optimizer."""

    def __init__(self, engine: Any, clip_norm: float | None):
        self._engine, self._clip_norm = engine, clip_norm

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._engine.optimizer.param_groups

    def descend(self, loss: torch.Tensor) -> torch.Tensor | None:
        self._engine.backward(loss)
        norm = None
        if self._clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(self._engine.module.parameters(), self._clip_norm)
        self._engine.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        return self._engine.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._engine.optimizer.load_state_dict(state)


class ZeroDescent(Descent):
    """An engine of stage 1, 2 or 3 (`split`: weights are split too).

    `groups` are the parameters of the optimizer's groups as they were before the engine took them.
    """

    def __init__(
        self,
        engine: Any,
        groups: list[list[nn.Parameter]],
        *,
        split: bool,
        rank: int,
        clips: bool,
    ):
        self._engine, self._groups, self._split = engine, groups, split
        self._rank, self._clips = rank, clips
        self._zero = engine.optimizer
        self._adam: torch.optim.Optimizer = engine.optimizer.optimizer

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._adam.param_groups

    def descend(self, loss: torch.Tensor) -> torch.Tensor | None:
        self._engine.backward(loss)
        self._engine.step()
        if not self._clips:
            return None
        return torch.as_tensor(self._engine.get_global_grad_norm(), device=loss.device).float()

    def flat_parts(self, group: int) -> list[torch.Tensor]:
        """This rank's fp32 pieces of a group: one, or at stage 3 one a sub-group."""
        if not self._split:
            return [self._zero.single_partition_of_fp32_groups[group]]
        owners = self._zero.sub_group_to_group_id
        parts = self._zero.fp32_partitioned_groups_flat
        return [part for number, part in enumerate(parts) if owners[number] == group]

    @torch.no_grad()
    def state_dict(self) -> dict[str, Any]:
        state: dict[int, dict[str, torch.Tensor]] = {}
        groups, first = [], 0
        for number, parameters in enumerate(self._groups):
            live = self.param_groups[number]
            indices = list(range(first, first + len(parameters)))
            first += len(parameters)
            groups.append({**{k: v for k, v in live.items() if k != "params"}, "params": indices})
            held = self._adam.state.get(self.flat_parts(number)[0], {})
            for index, parameter in zip(indices, parameters, strict=True):
                if held and parameter.requires_grad:
                    state[index] = self._gather(parameter, held)
        return {"state": state, "param_groups": groups}

    def _gather(
        self, parameter: nn.Parameter, held: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The moments of one parameter, whole, on the CPU of rank 0; elsewhere only `step`."""
        found = {"step": held["step"].detach().cpu().clone()}
        for key in moments(held):
            whole = self._read(parameter, key)
            if self._rank == 0:
                found[key] = whole.cpu()
        return found

    def _read(self, parameter: nn.Parameter, key: str) -> torch.Tensor:
        if self._split:
            from deepspeed.utils import safe_get_full_optimizer_state

            return safe_get_full_optimizer_state(parameter, key)
        whole = torch.zeros_like(parameter, dtype=torch.float32).flatten()
        if (piece := self._piece(parameter, key)) is not None:
            part, start = piece
            whole[start : start + len(part)] = part
        distributed.all_reduce(whole)
        return whole.view(parameter.shape)

    def _piece(self, parameter: nn.Parameter, key: str) -> tuple[torch.Tensor, int] | None:
        """Stages 1 and 2: this rank's piece of a moment and where in the parameter it begins."""
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            return None
        flat = self.flat_parts(mapping.param_group_index)[0]
        where = mapping.hp_fragment_address
        part = self._adam.state[flat][key].narrow(0, where.start, where.numel)
        return part, mapping.lp_fragment_address.start

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["param_groups"]) != len(self._groups):
            raise CheckpointError(
                f"optimizer: the checkpoint has {len(state['param_groups'])} groups of parameters,"
                f" this run {len(self._groups)}; start it under the version that wrote it"
            )
        for number, saved in enumerate(state["param_groups"]):
            self.param_groups[number].update({k: v for k, v in saved.items() if k != "params"})
            there = {i: state["state"][i] for i in saved["params"] if i in state["state"]}
            for flat in self.flat_parts(number):
                self._adam.state[flat] = self._empty_state(flat, there, self.param_groups[number])
            for index, parameter in zip(saved["params"], self._groups[number], strict=True):
                if index in there and parameter.requires_grad:
                    for key in moments(there[index]):
                        self._write(parameter, key, there[index][key].to(parameter.device))

    def _empty_state(
        self, flat: torch.Tensor, saved: dict[int, dict[str, Any]], group: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Zero moments for a piece, at the step that its parameters have in common."""
        if not saved:
            return {}
        steps = {float(one["step"]) for one in saved.values()}
        if len(steps) > 1:
            raise CheckpointError(
                f"optimizer: parameters of one group have seen {sorted(steps)} steps, and ZeRO"
                " counts one number a group; go on with backend.kind=accelerate"
            )
        on_device = bool(group.get("fused") or group.get("capturable"))
        device = flat.device if on_device else torch.device("cpu")
        step = torch.tensor(steps.pop(), dtype=torch.float32, device=device)
        keys = moments(next(iter(saved.values())))
        return {"step": step, **{key: torch.zeros_like(flat.data) for key in keys}}

    def _write(self, parameter: nn.Parameter, key: str, whole: torch.Tensor) -> None:
        if self._split:
            from deepspeed.utils import safe_get_local_optimizer_state

            copy_part(safe_get_local_optimizer_state(parameter, key), whole, self._rank)
        elif (piece := self._piece(parameter, key)) is not None:
            part, start = piece
            part.copy_(whole.flatten()[start : start + len(part)])


def moments(held: dict[str, Any]) -> list[str]:
    """Names of the tensors that an optimizer keeps for each number."""
    return [key for key, value in held.items() if isinstance(value, torch.Tensor) and key != "step"]


def copy_part(part: torch.Tensor, whole: torch.Tensor, rank: int) -> None:
    """Copy a rank's share of a tensor; the last ranks' shares may be padded, or only padding."""
    values = whole.flatten()[part.numel() * rank : part.numel() * (rank + 1)]
    part[: len(values)].copy_(values)
