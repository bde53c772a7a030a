"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from norface.data.tars import unwritable
from norface.errors import CorpusError

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def write_aside(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when all went well.

    shared: several jobs may write the same file at once; each has a temporary path of its own.
    Raises CorpusError where the disk is full or the folder cannot be written.
    """
    own = f".{os.uname().nodename}-{os.getpid()}" if shared else ""
    temporary = path.with_name(f".{path.name}{own}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def make_folder(path: Path) -> None:
    """Make a folder to write in. Raises CorpusError where it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


@contextlib.contextmanager
def write_folder_aside(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its place when all went well.

    What a killed process left aside is removed. Raises CorpusError where `path` is a file or a
    folder with something in it, or cannot be written.
    """
    if path.name in ("", ".."):
        path = path.resolve()
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if path.exists() and not path.is_dir():
            raise CorpusError(f"{path}: is a file; choose a new folder")
        if path.is_dir() and any(path.iterdir()):
            raise CorpusError(f"{path}: is not empty; choose another folder")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        # Renaming a folder onto an empty one replaces it.
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name as .safetensors, whole or not at all, with the mode the umask asks for.

    (The library itself leaves files that nobody but their owner can read.) Tensors may lie on any
    device, share memory or have any strides. Raises OSError and SafetensorError.
    """
    from safetensors.torch import save_file

    aside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
        save_file(own_storage(tensors), aside, dict(metadata or {}) or None)
        os.chmod(aside, mode)
        sync_to_disk(aside)
        os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, survive a loss of power. Raises OSError."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # Some file systems know no such thing for folders.
        if not (error.errno == errno.EINVAL and path.is_dir()):
            raise
    finally:
        os.close(number)


def own_storage(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous CPU tensors of which no two share memory (safetensors refuses tied weights)."""
    seen: set[int] = set()
    owned = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        owned[name] = tensor
    return owned


def file_sha256(path: str | Path) -> str:
    """sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
