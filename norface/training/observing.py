"""What a training says of itself: means of its metrics, and how fast the machine is with it."""

from __future__ import annotations

import resource
import sys
import time

import torch

from norface.training.backends.base import Backend


class MetricWindow:
    """Means of a rank's metrics since they were last written, each over the steps that gave it."""

    def __init__(self, state: dict[str, list[float]] | None = None):
        self.totals = {
            name: torch.tensor(pair, dtype=torch.float64) for name, pair in (state or {}).items()
        }
        self.note = ""
        self.restart_clock()

    def restart_clock(self) -> None:
        """Begin to measure rates now."""
        self.started, self.steps, self.waited_s, self.saving_s = time.monotonic(), 0, 0.0, 0.0

    def add(self, metrics: dict[str, torch.Tensor]) -> None:
        """Count one step's scalars."""
        self.steps += 1
        for name, value in metrics.items():
            pair = torch.stack([value.detach().double(), torch.ones_like(value).double()])
            if name in self.totals:
                pair = self.totals[name].to(pair.device) + pair
            self.totals[name] = pair

    def leave_out(self, since: float, *, saving: bool) -> None:
        """Do not count the time since `since` (time.monotonic) as training."""
        spent = time.monotonic() - since
        self.started += spent
        self.saving_s += spent * saving

    def close(self, backend: Backend, batch: int, operations: float) -> dict[str, float]:
        """Means over steps and ranks, and what was measured of the machine; starts anew.

        `batch`: pictures a step. `operations`: what a picture needs over what all ranks could do in
        a second, 0 where that is not known. All ranks call it.
        """
        means = {name: self.totals[name][0] / self.totals[name][1] for name in sorted(self.totals)}
        values = backend.reduce_mean(means)
        seconds = max(time.monotonic() - self.started, 1e-9)
        values["images_per_second"] = self.steps * batch / seconds
        values["save_share"] = self.saving_s / (seconds + self.saving_s)
        if operations:
            values["useful_flops_share"] = operations * values["images_per_second"]
        own = {"data_wait_share": self.waited_s / seconds, **measure_memory(backend.device)}
        # The rank that waits longest holds up all, and the fullest one fails first.
        ranks = backend.gather_objects(own)
        values |= {name: max(one[name] for one in ranks) for name in own}
        self.totals = {}
        self.note = f"loss {values['loss']:.4g}" if "loss" in values else ""
        self.restart_clock()
        return values

    def state(self) -> dict[str, list[float]]:
        """Sum and count by name, as plain numbers."""
        return {name: total.tolist() for name, total in self.totals.items()}


def measure_memory(device: torch.device) -> dict[str, float]:
    """{"memory_gb"}: the most that this process held at once; "gpu_memory_gb": on its GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if device.type == "cuda":
        found["gpu_memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return found


def measure_matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of square matrix products on this device, the best of three."""
    side = 8192 if device.type == "cuda" else 1024
    one = torch.full((side, side), 0.5, device=device, dtype=dtype)
    best = 0.0
    for _ in range(4):  # the first one warms up
        started = time.perf_counter()
        # .item() waits for the device.
        (one @ one)[0, 0].item()
        best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best


def share_of_machine(operations: float, backend: Backend, dtype: torch.dtype) -> float:
    """Seconds that all ranks together would need for `operations` at the rate of matrix products.

    All ranks call it at once, so that ranks which share a machine measure what they share; only
    rank 0 needs to know `operations`. 0 where it is 0.
    """
    (operations, *_) = backend.gather_objects(operations)
    if not operations:
        return 0.0
    rate = measure_matmul_rate(backend.device, dtype)
    return operations / sum(backend.gather_objects(rate))
