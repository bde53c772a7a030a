"""What the ranks are to one another: all-reduce and clocks. All ranks call these together."""

from __future__ import annotations

import socket
import time

import torch

from norface.doctor.base import Complaint
from norface.training.backends.base import Backend

MOST_SKEW_S = 1.0


def measure_all_reduce(backend: Backend) -> str | None:
    """Bandwidth and latency of a sum over all ranks; None for one rank."""
    count = backend.world_size
    machines = len(set(backend.gather_objects(socket.gethostname())))
    if count == 1:
        return None
    megabytes = 256 if backend.device.type == "cuda" else 16
    large = torch.ones(megabytes * 2**18, device=backend.device)
    found = backend.all_reduce_sum(large)
    if not bool((found == count).all()):
        raise Complaint(f"the sum of ones over {count} ranks is not {count}; do not train on this")
    seconds = time_it(backend, large, 4)
    small = time_it(backend, large[:1], 20)
    size = megabytes * 2**20
    # What passes through each rank's link in a ring: 2 (n - 1) / n of the tensor.
    rate = size * 2 * (count - 1) / count / seconds
    kind = "nccl" if backend.device.type == "cuda" else "gloo"
    return (
        f"{kind} all-reduce of {megabytes} MiB over {count} ranks on {machines} machine(s):"
        f" {rate / 1e9:.2f} GB/s a rank, {1e3 * seconds:.1f} ms; of 4 bytes: {1e6 * small:.0f} us"
    )


def time_it(backend: Backend, tensor: torch.Tensor, times: int) -> float:
    """Seconds of one all-reduce, the mean over some."""
    backend.all_reduce_sum(tensor)[0].item()
    backend.barrier()
    started = time.perf_counter()
    for _ in range(times):
        total = backend.all_reduce_sum(tensor)
    total[0].item()
    return (time.perf_counter() - started) / times


def measure_skew(backend: Backend) -> str | None:
    """How far the ranks' clocks are apart; None for one rank."""
    if backend.world_size == 1:
        return None
    spreads = []
    for _ in range(5):
        backend.barrier()
        times = backend.gather_objects(time.time())
        spreads.append([one - times[0] for one in times])
    # Ranks leave a barrier at different moments: the least spread is nearest to the clocks' own.
    best = min(spreads, key=lambda row: max(row) - min(row))
    worst = max(range(len(best)), key=lambda rank: abs(best[rank]))
    apart = abs(best[worst])
    if apart > MOST_SKEW_S:
        raise Complaint(
            f"the clock of rank {worst} is {best[worst]:+.1f} s off rank 0's; set it by NTP, or"
            " the logs of several ranks cannot be read together"
        )
    return f"clocks of ranks are within {1e3 * apart:.0f} ms"
