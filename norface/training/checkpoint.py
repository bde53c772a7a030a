"""Checkpoints: one folder a step, whole or not there.

    checkpoints/step-00001000/
        NAME.safetensors    one file a model
        state.pt            optimizers, the stage's own data, running metrics; no pickled code
        config.yaml         the resolved config
        manifest.json       step, images, ranks, and the sha256 of every other file

A folder is written under a temporary name, brought to the disk and renamed, and is only ever used
when its sums match: a job killed while saving, a loss of power, a full disk or a damaged file
system cost at most one interval.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from norface.errors import CheckpointError
from norface.files import file_sha256, sync_to_disk, write_tensors
from norface.training.retention import Retention

MANIFEST, STATE = "manifest.json", "state.pt"
PLAIN_TYPES = (type(None), bool, int, float, str, bytes)


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says about itself."""

    stage: str
    step: int
    images: int
    global_batch: int
    world_size: int
    config_hash: str
    measures: dict[str, float] = field(default_factory=dict)
    "Validation measures of this very step, where it was evaluated."
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass
class CheckpointFolder:
    """The checkpoints of one run. Written by rank 0, read by all."""

    folder: Path
    keep: int
    keep_every_steps: int = 0
    keep_best: str = ""

    @property
    def retention(self) -> Retention:
        """Which of them stay."""
        return Retention(self.keep, self.keep_every_steps, self.keep_best)

    def save(self, state: dict[str, Any], manifest: Manifest, config_text: str) -> Path:
        """Write the checkpoint of a step and drop the ones that need not be kept.

        `state` is a stage's state_dict plus plain data under "trainer". Raises CheckpointError when
        it cannot be written (the disk is full); the older checkpoints are then untouched.
        """
        check_plain({name: part for name, part in state.items() if name != "models"}, "state")
        final = self.path(manifest.step)
        aside = self.folder / f".writing-{final.name}"
        try:
            self.clear_leftovers()
            aside.mkdir(parents=True)
            for name, tensors in state["models"].items():
                write_tensors(aside / f"{name}.safetensors", tensors)
            with open(aside / STATE, "wb") as file:
                torch.save({name: part for name, part in state.items() if name != "models"}, file)
            (aside / "config.yaml").write_text(config_text, encoding="utf-8")
            sums = {path.name: file_sha256(path) for path in sorted(aside.iterdir())}
            values = {**manifest.__dict__, "sha256": sums}
            (aside / MANIFEST).write_text(json.dumps(values, indent=1), encoding="utf-8")
            # Before it has its name, and before older ones go: a loss of power leaves it whole.
            for path in (*aside.iterdir(), aside):
                sync_to_disk(path)
            discard(final)
            os.rename(aside, final)
            sync_to_disk(self.folder)
            self._drop_old(manifest.step)
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = explain_write_failure(error, self.folder)
            with contextlib.suppress(OSError):
                shutil.rmtree(aside, ignore_errors=True)
            raise CheckpointError(
                f"{final}: not written ({reason}); older checkpoints are untouched; make room and"
                " start the same command again"
            ) from error
        return final

    def newest_whole(self) -> Manifest | None:
        """The newest checkpoint whose sums match; each damaged one on the way is told in a line."""
        for path in reversed(self.paths()):
            try:
                return verify(path)
            except CheckpointError as error:
                print(f"checkpoint passed over: {error}", file=sys.stderr, flush=True)
        return None

    def load(self, step: int) -> dict[str, Any]:
        """The state of a step that `newest_whole` has found, on the CPU."""
        path = self.path(step)
        try:
            state = torch.load(path / STATE, map_location="cpu", weights_only=True)
            files = [path / name for name in sorted(read_manifest(path).sha256)]
            models = {file.stem: load_file(file) for file in files if file.suffix == ".safetensors"}
        except pickle.UnpicklingError as error:
            message = f"{path / STATE}: cannot be read (it holds more than tensors and plain data)"
            raise CheckpointError(message) from error
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{path}: cannot be read ({reason})") from error
        return {**state, "models": models}

    def path(self, step: int) -> Path:
        """Folder of a step's checkpoint."""
        return self.folder / f"step-{step:08d}"

    def paths(self) -> list[Path]:
        """Folders of all checkpoints, whole or not, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if re.fullmatch(r"step-\d{8,}", p.name))

    def clear_leftovers(self) -> None:
        """Remove what a killed job left half-written or half-removed."""
        for path in self.folder.glob(".writing-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(".removing-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _drop_old(self, step: int) -> None:
        measures = self.measures(upto=step)
        for old in measures.keys() - self.retention.choose(measures):
            discard(self.path(old))

    def measures(self, *, upto: int) -> dict[int, dict[str, float]]:
        """Step => measures of every checkpoint up to a step; {} where they cannot be read."""
        found: dict[int, dict[str, float]] = {}
        for path in self.paths():
            step = int(path.name.removeprefix("step-"))
            if step <= upto:
                found[step] = {}
                with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                    values = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
                    found[step] = dict(values.get("measures") or {})
        return found


def verify(path: Path) -> Manifest:
    """The manifest of a checkpoint whose files are all there with the right sums.

    Raises CheckpointError naming the file that is missing or differs.
    """
    manifest = read_manifest(path)
    for name, expected in manifest.sha256.items():
        try:
            found = file_sha256(path / name)
        except OSError:
            raise CheckpointError(f"{path / name}: missing or not readable") from None
        if found != expected:
            raise CheckpointError(f"{path / name}: damaged (its sha256 is not the manifest's)")
    return manifest


def read_manifest(path: Path) -> Manifest:
    """What a checkpoint says about itself; its files are not looked at.

    Raises CheckpointError where it is not there, or does not list the files.
    """
    try:
        values = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**values)
        names = [name for name in manifest.sha256 if Path(name).name == name]
    except (OSError, ValueError, TypeError, AttributeError):
        raise CheckpointError(f"{path / MANIFEST}: missing or not readable") from None
    if STATE not in names or len(names) < len(manifest.sha256):
        raise CheckpointError(f"{path / MANIFEST}: does not list the files of its folder (sha256)")
    return manifest


def discard(path: Path) -> None:
    """Remove a checkpoint so that no half of it keeps its name."""
    if path.exists():
        gone = path.with_name(f".removing-{path.name}")
        os.rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


def check_plain(value: Any, path: str) -> None:
    """Raise TypeError, naming the place, for anything that could not be read back as plain data."""
    for name, item in walk(value, path):
        # Exact types: numpy's float is a float, but needs numpy's pickling code to be read back.
        if type(item) not in PLAIN_TYPES and not isinstance(item, torch.Tensor):
            raise TypeError(
                f"{name} is a {type(item).__name__}; a stage's state holds tensors, numbers, text"
                " and lists and dicts of them"
            )


def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts and lists, each with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from walk(item, f"{path}[{number}]")
    else:
        yield path, value


def non_finite_tensor(models: dict[str, dict[str, torch.Tensor]]) -> str | None:
    """`model.tensor` of the first tensor that holds a NaN or an infinity, or None."""
    for model, tensors in models.items():
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return f"{model}.{name}"
    return None


def explain_write_failure(error: BaseException, folder: Path) -> str:
    """`no space left on device` and its like, whatever library met it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    with contextlib.suppress(OSError):
        if shutil.disk_usage(folder).free < 2**20:
            return "no space left on device"
    return str(error).splitlines()[0]
