"""One training at a time in a run folder.

Two jobs of one command (a second sbatch, a node that Slurm gave up and that goes on) would go on
from the same checkpoint, remove each other's half-written ones and cut each other's metrics back.
So rank 0 holds RUN/.lock from its start to its end. The kernel, or the file server, gives the lock
back whatever ends the process; a file that is left means nothing by itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from norface.errors import CheckpointError
from norface.tracking import writing
from norface.training.agreement import on_main
from norface.training.backends.base import Backend

LOCK_FILE = ".lock"
PATIENCE_S = 120.0
"""How long a start waits for the one before it: one that is ending, or whose machine is dead, which
NFS 4 notices after 90 s."""
JOB = "NORFACE_JOB"
"""Variable of the environment that names the cluster's job. Its own next start, on another machine,
takes the lock over instead of being refused: a dead machine's may stay for ever (NFS 3)."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"What file systems without locks say; runs there are as alone as their user makes them."


@contextlib.contextmanager
def alone_in(backend: Backend, folder: Path) -> Iterator[None]:
    """The run folder is this training's while the block runs. All ranks.

    Raises CheckpointError where another process holds it for longer than PATIENCE_S.
    """
    held: list[IO[str]] = []
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    on_main(backend, lambda: held.append(take(folder)))
    try:
        yield
    finally:
        for file in held:
            release(file, folder, made)


def take(folder: Path) -> IO[str]:
    """The open lock file of a folder, locked. Raises CheckpointError."""
    path, deadline, told = folder / LOCK_FILE, time.monotonic() + PATIENCE_S, False
    host, job = socket.gethostname(), os.environ.get(JOB)
    ours = f"process {os.getpid()} on {host}" + (f", job {job}" if job else "")
    while True:
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        if is_locked(file, path):
            with contextlib.suppress(OSError):
                file.truncate(0)
                file.write(ours)
                file.flush()
            return file
        file.seek(0)
        holder = file.read(200) or "unknown"
        file.close()
        if time.monotonic() > deadline:
            if job and holder.endswith(f", job {job}") and f" on {host}," not in holder:
                print(f"{folder}: taken over from {holder}", file=sys.stderr, flush=True)
                path.unlink(missing_ok=True)
                continue
            raise CheckpointError(
                f"{folder}: another start trains this run ({holder}); wait for it, cancel it, or"
                f" choose another name=; if that machine is dead, remove {path}"
            )
        if not told:
            told = True
            print(
                f"{folder}: another start trains this run ({holder}); waiting for its end, but no"
                f" longer than {PATIENCE_S:g} s",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(0.2)


def is_locked(file: IO[str], path: Path) -> bool:
    """Lock a file; False where another process has it, or has just taken the name away.

    A lock of the process (lockf), not of the open file (flock): reading processes, forked
    meanwhile, may live on for seconds after a killed training, and must not hold it.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return True
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise CheckpointError(f"{path}: cannot be locked ({error.strerror})") from None
        return False


def release(file: IO[str], folder: Path, made: list[Path]) -> None:
    """Give the lock back; folders that were made for it and hold nothing else do not stay."""
    path = folder / LOCK_FILE
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            path.unlink()
    file.close()
    with contextlib.suppress(OSError):
        for one in made:
            one.rmdir()
