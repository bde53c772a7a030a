"""Saving beside the training: the state is copied to host memory, a thread writes it.

A save costs the training a copy instead of a write. The next one waits for it, a failure surfaces
at the next step edge, and a job that is killed meanwhile leaves a half-written folder, which is
passed over as ever.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

from norface.training.checkpoint import CheckpointFolder, Manifest, check_plain


class CheckpointWriter:
    """Writes checkpoints into a folder, in a thread where `background` says so. Rank 0."""

    def __init__(self, folder: CheckpointFolder, *, background: bool):
        self.folder, self.background = folder, background
        self.failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def save(self, state: dict[str, Any], manifest: Manifest, config_text: str) -> None:
        """Write now, or begin to. Raises what an earlier write raised, and TypeError for state
        that is not plain."""
        self.wait()
        if not self.background:
            self.folder.save(state, manifest, config_text)
            return
        check_plain({name: part for name, part in state.items() if name != "models"}, "state")
        arguments = (copy_to_host(state), manifest, config_text)
        # Not a daemon: a process that ends with an error still finishes what it writes.
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint")
        self._thread.start()

    def _write(self, *arguments: Any) -> None:
        try:
            self.folder.save(*arguments)
        except BaseException as error:
            self.failure = error

    def wait(self) -> None:
        """Until nothing is being written. Raises what the writing raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure


def copy_to_host(value: Any) -> Any:
    """Nested dicts and lists with tensors copied into memory of their own on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copy_to_host(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copy_to_host(item) for item in value)
    return value
