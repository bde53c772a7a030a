"""Watching a trial: starts its process or ranks, reads its reports, answers them.

    watch = TrialWatch(folder, resources, cwd)
    while (event := watch.next()).kind == "report":
        watch.answer(stop=...)
    watch.close()

`leave` is for another thread than the one that waits in `next`.

Imports neither torch nor Ray: it runs in Ray's actors and in jobs of an array, beside the trial.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from norface.tracking import Run, TrackingConfig
from norface.training.preemption import RESUME_CODE
from tune.channel import GO, MARK, STOP
from tune.folder import LOG_FILE, OBJECTIVE, catch_up, reports_of, write_trial

GRACE_S = 60.0
"How long a trial that is told to stop may take to save."


class Event(NamedTuple):
    """report, done or failed; left = it saved on request and goes on another time."""

    kind: str
    metrics: dict[str, Any]
    "Of a report: its line in metrics.jsonl."


class TrialWatch:
    """A trial's process and its files. One at a time a trial.

    `spec` is Sweep.spec() with the trial's folder: in it metric is the objective's name, chooser
    the one that chooses a fold's epoch. `start_others` starts the ranks of a trial's other nodes
    and returns the command of this one's, None for a single node.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        start_others: Callable[[], list[str] | None] = lambda: None,
    ):
        self.spec, self.folder = dict(spec), Path(spec["folder"])
        self.start_others = start_others
        self.process: subprocess.Popen[str] | None = None
        self._log: IO[str] | None = None
        self.starts, self._started, self._leaving = 0, 0.0, False
        self.trial = catch_up(self.folder)

    def _own_command(self) -> list[str]:
        if self.spec["processes"] > 1:
            count = str(self.spec["processes"])
            return [sys.executable, "-m", "tune.ranks", "--ranks", count, str(self.folder)]
        return [sys.executable, "-m", "tune.trial", str(self.folder)]

    @property
    def recorded(self) -> list[dict[str, Any]]:
        """The reports of earlier starts, as `next` gives them."""
        return reports_of(self.folder)

    def next(self) -> Event:
        """The next report that is new, or the end; a trial whose process died is started again."""
        while True:
            if self.process is None:
                if self._leaving:
                    return Event("left", {})
                self._start()
                if self._leaving:
                    # Asked while it started, when `leave` found no process yet.
                    self._hang_up()
            message = self._read()
            if message is None:
                if (ended := self._look_at_end()) is not None:
                    return ended
                continue
            if "failed" in message:
                return self._end("failed", error=message["failed"])
            if "done" in message:
                return self._end("finished")
            if message["report"] <= self.trial.reports:
                # Said before: the trial went on from a checkpoint that is older than its reports.
                self.answer(stop=False)
                continue
            return Event("report", self._note(message))

    def answer(self, *, stop: bool) -> None:
        """Let the trial go on after a report, or end it."""
        process = self.process
        if process is None or process.stdin is None:
            return
        # Where it has died, `next` finds that out.
        with contextlib.suppress(BrokenPipeError, ValueError):
            process.stdin.write(f"{STOP if stop else GO}\n")
            process.stdin.flush()

    def leave(self) -> None:
        """Have the trial save and end; whoever waits in `next` then gets `left`. Waits for nothing.

        Called by another thread, so it touches nothing that a blocked `next` may hold.
        """
        self._leaving = True
        self._hang_up()

    def kill(self) -> None:
        """End the trial's process at once, from another thread; the last checkpoint counts."""
        process = self.process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _hang_up(self) -> None:
        """The trial takes a closed stdin for a watcher that has gone: it saves and ends."""
        process = self.process
        if process is not None:
            _close(process.stdin)

    def close(self) -> None:
        """End the trial's process: what waits for an answer stops, what trains saves and stops."""
        if self.process is None:
            return
        self.answer(stop=True)
        deadline = time.monotonic() + GRACE_S
        _close(self.process.stdin)
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self._finish_process()

    def _start(self) -> None:
        self.starts += 1
        self.trial.node = socket.gethostname()
        self._started = time.monotonic()
        threads = max(1, int(self.spec["cpus"]))
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self._log = open(self.folder / LOG_FILE, "a", encoding="utf-8")  # noqa: SIM115
        self.process = subprocess.Popen(
            self.start_others() or self._own_command(),
            cwd=self.spec["cwd"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def _read(self) -> dict[str, Any] | None:
        """The trial's next message; None once its output has ended."""
        assert self.process is not None and self.process.stdout is not None
        assert self._log is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line[len(MARK) :])
            if line.strip():
                self._log.write(line)
                self._log.flush()
        return None

    def _look_at_end(self) -> Event | None:
        """The output has ended without a last word: start again, or give up.

        A process that was killed (a rank of it: 128 + signal), lost a rank on another node or saved
        on request starts again; one that failed by itself would fail again.
        """
        assert self.process is not None
        code = self.process.wait()
        self._finish_process()
        if self._leaving:
            return Event("left", {})
        was_killed = code < 0 or code > 128 or code == RESUME_CODE
        if was_killed and self.starts <= self.spec["retries"]:
            return None
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        times = f" {self.starts} times" if was_killed else ""
        log = self.folder / LOG_FILE
        last = (log.read_text(encoding="utf-8", errors="replace").split("\n") or [""])[-2:]
        said = " ".join(last).strip()[-200:]
        return self._end("failed", error=f"ended with {how}{times}: {said} (see {log})")

    def _finish_process(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout, self._log):
                _close(pipe)
            self.process = None
            self.trial.seconds = round(self.trial.seconds + time.monotonic() - self._started, 2)
            write_trial(self.folder, self.trial)

    def _note(self, message: dict[str, Any]) -> dict[str, Any]:
        """A report into the trial's metrics; returns the line with the objective."""
        metrics = {
            name: value
            for name, value in message["metrics"].items()
            if value is not None and math.isfinite(value)
        }
        line = {f"validation/{name}": value for name, value in metrics.items()}
        line["fold"] = message["fold"]
        past = [*reports_of(self.folder), line]
        line[OBJECTIVE] = sum_up(past, self.spec["metric"], self.spec["chooser"])
        Run(self.folder, TrackingConfig(mlflow=False), None).log(
            line, message["report"], message["images"]
        )
        # As metrics.jsonl has it: a measure of nothing can win no sweep.
        value = line[OBJECTIVE]
        self.trial.value = value if math.isfinite(value) else None
        self.trial.reports = message["report"]
        write_trial(self.folder, self.trial)
        return {**line, "step": message["report"]}

    def _end(self, state: str, error: str = "") -> Event:
        self.trial.state, self.trial.error = state, error
        self._finish_process()
        write_trial(self.folder, self.trial)
        return Event("done" if state == "finished" else "failed", {"error": error})


def _close(pipe: IO[Any] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def sum_up(lines: Sequence[Mapping[str, Any]], metric: str, chooser: str | None) -> float:
    """The objective after these reports: mean over the folds so far of each one's chosen epoch.

    The epoch of a fold is the one with the highest `chooser`, as the stage itself chooses it; None
    = the last report.
    """
    folds: dict[int, list[Mapping[str, Any]]] = {}
    for line in lines:
        folds.setdefault(int(line["fold"]), []).append(line)
    values = []
    for reports in folds.values():
        chosen = reports[-1]
        if chooser is not None:
            known = [one for one in reports if one.get(f"validation/{chooser}") is not None]
            chosen = max(known, key=lambda one: one[f"validation/{chooser}"], default=chosen)
        value = chosen.get(f"validation/{metric}")
        values.append(float("nan") if value is None else float(value))
    return sum(values) / len(values)
