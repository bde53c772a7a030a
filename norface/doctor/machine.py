"""Packages, processors and memory of one machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Sequence

import psutil
import torch

from norface.doctor.base import Complaint
from norface.training.backends.base import Backend, BackendConfig
from norface.training.observing import measure_matmul_rate

NEEDED = ("torch", "torchvision", "accelerate", "safetensors", "timm", "mlflow", "pandas")
OPTIONAL = {"deepspeed": "backend.kind=deepspeed", "ray": "sweeps", "submitit": "launchers.submit"}
"Package => what it is for."


def read_versions() -> dict[str, str]:
    """Package => version, of those that are there; "python" and "norface" among them."""
    found = {"python": platform.python_version()}
    for name in ("norface", *NEEDED, *OPTIONAL):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def check_packages(versions: Sequence[dict[str, str]], config: BackendConfig) -> str:
    """Versions, the same on all ranks. `versions`: those of every rank."""
    mine = versions[0]
    if missing := [name for name in NEEDED if name not in mine]:
        raise Complaint(f"{', '.join(missing)} missing; pip install -e . in the project's folder")
    for rank, other in enumerate(versions):
        for name in mine.keys() | other.keys():
            if mine.get(name) != other.get(name):
                raise Complaint(
                    f"{name} is {mine.get(name, 'missing')} on rank 0 and"
                    f" {other.get(name, 'missing')} on rank {rank}; use one environment for all"
                )
    # A backend's kind may be of a later version than this list knows.
    if str(config.kind) == "deepspeed" and "deepspeed" not in mine:
        raise Complaint("backend.kind=deepspeed, but no deepspeed; pip install -e '.[deepspeed]'")
    absent = [f"{name} ({use})" for name, use in OPTIONAL.items() if name not in mine]
    shown = ", ".join(f"{name} {version}" for name, version in mine.items())
    return shown + (f"; not there: {', '.join(absent)}" if absent else "")


def describe_devices(backend: Backend) -> str:
    """The device of this rank and how fast it multiplies."""
    rates = ", ".join(
        f"{measure_matmul_rate(backend.device, dtype) / 1e9:,.0f} GFLOP/s {name}"
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    )
    if backend.device.type == "cuda":
        about = torch.cuda.get_device_properties(backend.device)
        free, total = torch.cuda.mem_get_info(backend.device)
        return (
            f"{torch.cuda.device_count()} x {about.name}, this one {free / 2**30:.0f} of"
            f" {total / 2**30:.0f} GiB free, {rates}"
        )
    cores = len(os.sched_getaffinity(0))
    return f"no GPU; {cores} cores, {torch.get_num_threads()} threads a rank, {rates}"


def check_memory() -> str:
    """Main memory, and the shared memory through which reading processes hand over pictures."""
    memory = psutil.virtual_memory()
    shared = shutil.disk_usage("/dev/shm") if os.path.isdir("/dev/shm") else None
    text = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    if shared is not None:
        if shared.free < 2**28:
            raise Complaint(
                f"{text}, but /dev/shm has {shared.free / 2**20:.0f} MiB: reading processes"
                " need it; give the container more (--shm-size=8g), or data.workers=0"
            )
        text += f", /dev/shm {shared.free / 2**30:.1f} GiB"
    if memory.available < 2**30:
        raise Complaint(f"{text}; end other programs or take a larger machine")
    return text
