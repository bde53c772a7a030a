"""Disks, the file system's clock, and the tracking server."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from norface.doctor.base import Complaint
from norface.errors import hide_password
from norface.tracking import TrackingConfig

PROBE_BYTES = 64 * 2**20
LEAST_FREE, MOST_SKEW_S = 2**30, 2.0


def check_root(root: Path) -> str:
    """Write and read a file where runs will be: speed, room, and the file system's clock."""
    existing = next(path for path in (root, *root.resolve().parents) if path.is_dir())
    try:
        with probe_file(existing) as path:
            data = os.urandom(2**20)
            before, started = time.time(), time.perf_counter()
            with open(path, "wb") as file:
                for _ in range(PROBE_BYTES // len(data)):
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            writing = PROBE_BYTES / (time.perf_counter() - started)
            skew = path.stat().st_mtime - time.time()
            spent = time.time() - before
            reading = measure_reading(path)
    except OSError as error:
        raise Complaint(
            f"{existing}: cannot be written ({(error.strerror or str(error)).lower()}); make room,"
            " or choose another root=FOLDER"
        ) from None
    free = shutil.disk_usage(existing).free
    if free < LEAST_FREE:
        raise Complaint(
            f"{root}: {free / 2**20:.0f} MiB free; checkpoints need more: make room, or choose"
            " another root=FOLDER"
        )
    if not -spent - MOST_SKEW_S < skew < MOST_SKEW_S:
        raise Complaint(
            f"{root}: the file server's clock is {skew:+.1f} s off this machine's; set both by NTP"
        )
    return (
        f"{root}: {free / 2**30:.1f} GiB free, writes {writing / 1e6:.0f} MB/s, reads"
        f" {reading / 1e6:.0f} MB/s, its clock agrees within {MOST_SKEW_S:.0f} s"
    )


@contextlib.contextmanager
def probe_file(folder: Path) -> Iterator[Path]:
    """A name in a folder, gone afterwards."""
    path = folder / f".norface-doctor-{uuid.uuid4().hex[:8]}"
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def measure_reading(path: Path) -> float:
    """Bytes a second of reading up to PROBE_BYTES of a file that the kernel has let go of."""
    with open(path, "rb", buffering=0) as file:
        with contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started, done = time.perf_counter(), 0
        while done < PROBE_BYTES and (block := file.read(2**22)):
            done += len(block)
    return done / max(time.perf_counter() - started, 1e-9)


def check_tracking(tracking: TrackingConfig, root: Path) -> str | None:
    """Whether the tracking server answers; None where MLflow is not wanted."""
    if not tracking.mlflow:
        return None
    uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        store = root / "mlflow.db"
        if not store.exists():
            return f"no server: a store of our own, {store}, will be made"
        uri = f"sqlite:///{store.resolve()}"
    # One answer now, not minutes of trying again.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "10"
    from norface.mlflow_client import import_mlflow, make_client, reason

    import_mlflow()
    started = time.perf_counter()
    try:
        make_client(uri).search_experiments(max_results=1)
    except Exception as error:
        raise Complaint(
            f"{hide_password(uri)} does not answer ({reason(error)}); start it (slurm/mlflow.sh),"
            " or train without: runs are complete, `norface track sync` brings them there later"
        ) from None
    return f"{hide_password(uri)} answers in {1e3 * (time.perf_counter() - started):.0f} ms"
