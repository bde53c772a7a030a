"""The device that a user names."""

from __future__ import annotations

import torch

from norface.errors import ConfigError


def read_device(name: torch.device | str) -> torch.device:
    """cpu, cuda or cuda:N, once it is there. Raises ConfigError."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: found '{name}'; valid: cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: found '{name}'; valid: cpu, cuda, cuda:N")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(f"device: found '{name}', but torch sees {count or 'no'} GPU; use cpu")
    return device
