"""`norface bench tracking`: many processes that log to one MLflow server, all at once.

Each process does what a training does: a step that takes a while, metrics every few steps, a
picture now and then, through the same `Run` and feeding thread. Afterwards the server's own
database is read and held against every metrics.jsonl, value by value.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from norface.config import Config
from norface.errors import TrackingError
from norface.tracking import RESERVED, TrackingConfig, open_run, read_facts, read_metrics

GOAL = 0.02
"Share of its time that a training may be blocked."
STEP_S, LOG_EVERY_STEPS, PICTURE_EVERY_STEPS = 0.05, 10, 200
"A step waits so long for its device; metrics and pictures come every so many steps."
METRICS, SIDE = 20, 256
PATIENCE_S = 300


class TrackingRates(Config):
    """What many trainings and one server did to each other."""

    processes: int
    seconds: float
    "How long each process trained."
    written: int
    "Values in all metrics.jsonl."
    lost: int
    "Of those, the ones that the server has not got, or got with another value."
    blocked: float
    "Largest share of its time that a training spent in logging calls."
    blocked_mean: float
    working: float
    """Mean share of its time that a training computed in those calls: what is left of `blocked` on
    a machine with a free core for each."""
    slowest_call_s: float
    "The longest of all logging calls."
    feeding: float
    "Mean share of a core that a process's feeding and watching threads took."
    catching_up_s: float
    "Longest wait at the end of a run for the server to catch up; the training is over then."
    server: float
    "Cores that the server took while they trained."

    def describe(self) -> str:
        """Lines for a person."""
        return "\n".join(
            [
                f"{self.processes} processes, {self.seconds:.0f} s, one MLflow server (sqlite)",
                f"  values written {self.written}, lost {self.lost}",
                f"  training blocked in logging calls: {100 * self.blocked:.2f} % of the time at"
                f" most, {100 * self.blocked_mean:.2f} % on average (goal {100 * GOAL:.0f} %),"
                f" slowest call {self.slowest_call_s:.3f} s",
                f"    of that computing: {100 * self.working:.2f} %; the rest waited for a core",
                f"  feeding threads: {100 * self.feeding:.1f} % of a core each",
                f"  waited after the end until the server had all: {self.catching_up_s:.1f} s",
                f"  the server itself: {self.server:.2f} cores",
            ]
        )


class Trained(NamedTuple):
    """What one process measured of itself."""

    seconds: float
    blocked_s: float
    working_s: float
    slowest_s: float
    feeding_cpu_s: float
    catching_up_s: float


def bench_tracking(place: Path, *, processes: int, seconds: float) -> TrackingRates:
    """Measure below the folder `place`. Raises TrackingError where the server does not start."""
    import psutil

    context = multiprocessing.get_context("spawn")
    with tracking_server(place, port := free_port()) as server, context.Manager() as manager:
        uri = f"http://127.0.0.1:{port}"
        gate = manager.Barrier(processes + 1)
        with ProcessPoolExecutor(processes, context) as pool:
            folders = [place / "runs" / f"run{number:02d}" for number in range(processes)]
            work = [pool.submit(train, folder, uri, seconds, gate) for folder in folders]
            gate.wait(PATIENCE_S)
            before, began = cpu_of(psutil.Process(server.pid)), time.monotonic()
            gate.wait(PATIENCE_S + seconds)
            server_cores = (cpu_of(psutil.Process(server.pid)) - before) / (
                time.monotonic() - began
            )
            done = [one.result() for one in work]
        written, lost = count_lost(place / "server.db", folders)
    shares = [one.blocked_s / one.seconds for one in done]
    return TrackingRates(
        processes=processes,
        seconds=round(float(np.mean([one.seconds for one in done])), 1),
        written=written,
        lost=lost,
        blocked=round(max(shares), 5),
        blocked_mean=round(float(np.mean(shares)), 5),
        working=round(float(np.mean([one.working_s / one.seconds for one in done])), 5),
        slowest_call_s=round(max(one.slowest_s for one in done), 4),
        feeding=round(float(np.mean([one.feeding_cpu_s / one.seconds for one in done])), 4),
        catching_up_s=round(max(one.catching_up_s for one in done), 1),
        server=round(server_cores, 2),
    )


def train(folder: Path, uri: str, seconds: float, gate: threading.Barrier) -> Trained:
    """A training without a network: waits for its device, logs, draws; in a process of its own."""
    run = open_run(folder, kind="bench", tracking=TrackingConfig(uri=uri, experiment="bench"))
    rng = np.random.default_rng()
    pixels = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    blocked, working, slowest, step = 0.0, 0.0, 0.0, 0
    run.start_feeding()
    gate.wait()
    began, cpu, own = time.monotonic(), time.process_time(), time.thread_time()
    while time.monotonic() - began < seconds:
        time.sleep(STEP_S)
        step += 1
        values = {f"loss/{number:02d}": float(rng.normal()) for number in range(METRICS)}
        called, cpu_before = time.monotonic(), time.thread_time()
        if step % LOG_EVERY_STEPS == 0:
            run.log(values, step, 8 * step)
        if step % PICTURE_EVERY_STEPS == 0:
            run.log_image("samples", pixels, step)
        took = time.monotonic() - called
        working += time.thread_time() - cpu_before
        blocked, slowest = blocked + took, max(slowest, took)
    trained = time.monotonic() - began
    feeding = time.process_time() - cpu - (time.thread_time() - own)
    gate.wait()
    called = time.monotonic()
    run.finish(patience_s=PATIENCE_S)
    return Trained(trained, blocked, working, slowest, feeding, time.monotonic() - called)


def count_lost(database: Path, folders: list[Path]) -> tuple[int, int]:
    """(values in the folders' metrics.jsonl, those that the server's database lacks or has
    otherwise)."""
    written = lost = 0
    with contextlib.closing(sqlite3.connect(database)) as store:
        for folder in folders:
            rows = store.execute(
                "select m.key, m.step, m.value from metrics m join tags t using (run_uuid)"
                " where t.key = 'norface.run' and t.value = ?",
                (read_facts(folder)["id"],),
            )
            there = {(key, step): value for key, step, value in rows}
            for line in read_metrics(folder):
                for name, value in line.items():
                    if name not in RESERVED:
                        written += 1
                        lost += there.get((name, line["step"])) != value
    return written, lost


@contextlib.contextmanager
def tracking_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A real MLflow server over FOLDER/server.db on this machine, killed at the end of the block.

    Raises TrackingError where it does not answer within five minutes.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    artifacts = ["--artifacts-destination", str(folder / "server-artifacts")]
    # Without the runners of jobs, which nothing here needs: nine processes of 240 MB.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment = {**os.environ, **quiet}
    with open(folder / "server.txt", "a") as log:
        process = subprocess.Popen(
            [*command, *store, *artifacts],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
        )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not answers(port):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise TrackingError(f"{folder}: MLflow's server did not start, see server.txt")
                time.sleep(0.2)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port: int) -> bool:
    """Whether a server at this port says that it is well."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def cpu_of(process: object) -> float:
    """Seconds of processor that a process and those below it have taken so far."""
    import psutil

    assert isinstance(process, psutil.Process)
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total
