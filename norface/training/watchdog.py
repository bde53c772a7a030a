"""Finds the rank that does not come to a collective, while all others wait there for it.

torch counts the collectives that a rank has entered, each group its own. A thread on every rank
writes their sum, the step and what the rank is doing to RUN/ranks/N.json, and looks at the others'
when its own number has not moved for long. Ranks with a lower number than others are the ones that
are waited for: they are named in one line, and all ranks end with 1. Files, because they are still
there when a rank is stopped or its machine is dead, whichever rank it is.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import distributed

from norface.tracking import read_facts, write_facts
from norface.training.backends.base import Backend

RANKS_FOLDER = "ranks"
PACKAGE, LIBRARY = str(Path(__file__).parents[1]), os.path.dirname(os.__file__)


@dataclass(frozen=True)
class Sighting:
    """What is known of a rank."""

    rank: int
    step: int
    "Steps that it has done."
    collectives: int
    "Collectives that it has entered."
    doing: str
    "The line of our code that it is in."
    host: str
    pid: int
    start: str
    "The same for all ranks of one start."


class Watchdog:
    """Watches this process's main thread from a thread of its own. Use `watching`."""

    def __init__(self, backend: Backend, run_folder: Path, hang_seconds: float):
        self.rank, self.world_size = backend.rank, backend.world_size
        self.run_folder, self.folder = run_folder, run_folder / RANKS_FOLDER
        self.hang_seconds = hang_seconds
        self.step = 0
        self._patient: set[str] = set()
        self._made = False
        self._start = backend.gather_objects(uuid.uuid4().hex)[0]
        self._main, self._ending = threading.main_thread().ident, threading.Event()
        if backend.is_main:
            shutil.rmtree(self.folder, ignore_errors=True)
        backend.barrier()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        # Looks often enough to name the rank before `hang_seconds` are over.
        every_s = min(self.hang_seconds / 20, 30)
        moved, before = time.monotonic(), -1
        while not self._ending.wait(every_s):
            mine = self._look()
            if mine.collectives != before:
                moved, before = time.monotonic(), mine.collectives
            self._write(mine)
            if time.monotonic() - moved < 0.75 * self.hang_seconds:
                continue
            if self._made and not self.folder.is_dir():
                # A rank that failed took it away, see `close`.
                line = f"rank {self.rank}: another rank is gone; see its message"
                print(line, file=sys.stderr, flush=True)
                os._exit(1)
            # Twice, with time between: the others too must have had the time to write.
            if late := find_late(self.read(), self.world_size):
                self._ending.wait(2 * every_s)
                if self._look().collectives == before and find_late(self.read(), self.world_size):
                    self._end(late)

    def _look(self) -> Sighting:
        # Here, at every look: ZeRO makes its group long after this thread has begun.
        groups = find_groups_of_all(self.world_size)
        self._be_patient(groups)
        return Sighting(
            rank=self.rank,
            step=self.step,
            collectives=sum(map(count_collectives, groups)),
            doing=find_line(self._main),
            host=socket.gethostname(),
            pid=os.getpid(),
            start=self._start,
        )

    def _be_patient(self, groups: list[distributed.ProcessGroup]) -> None:
        """torch gives up after 10 (nccl) or 30 minutes and names nobody: not before us."""
        patience = datetime.timedelta(seconds=2 * self.hang_seconds + 600)
        for group in groups:
            if group.group_name not in self._patient:
                self._patient.add(group.group_name)
                for device in group._device_types:
                    group._get_backend(device)._set_default_timeout(patience)

    def _write(self, mine: Sighting) -> None:
        path = self.folder / f"{self.rank}.json"
        # A full disk is not this thread's to complain about.
        with contextlib.suppress(OSError):
            if not self._made:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._made = True
            aside = path.with_name(f".{path.name}")
            aside.write_text(json.dumps(asdict(mine)), encoding="utf-8")
            os.replace(aside, path)

    def read(self) -> list[Sighting]:
        """What all ranks of this start have written, by rank."""
        found = []
        for rank in range(self.world_size):
            with contextlib.suppress(OSError, ValueError, TypeError):
                values = json.loads((self.folder / f"{rank}.json").read_text(encoding="utf-8"))
                found.append(Sighting(**values))
        return [one for one in found if one.start == self._start]

    def _end(self, late: list[Sighting | int]) -> None:
        """End this process; the first rank that is not late says why, in the log and in run.json.

        A process whose main thread waits in a collective can be ended in no other way.
        """
        late_ranks = {one if isinstance(one, int) else one.rank for one in late}
        if self.rank == min(set(range(self.world_size)) - late_ranks):
            print(describe_late(late, self.hang_seconds), file=sys.stderr, flush=True)
            with contextlib.suppress(Exception):
                # {} = it is not open yet.
                if facts := read_facts(self.run_folder):
                    ended = round(time.time(), 3)
                    write_facts(self.run_folder, {**facts, "status": "failed", "ended": ended})
        else:
            # The rank that speaks is the first to end: a launcher quotes the first failure.
            time.sleep(1)
        os._exit(1)

    def close(self, *, failed: bool = False) -> None:
        """Stop watching and take this rank's file away, and those of all where this rank `failed`:
        the others wait for it in vain, are killed, and cannot. Nor does a run folder stay that
        holds nothing else, because the run was not even opened."""
        self._ending.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if failed:
                # In one go, lest another rank write into what is being emptied.
                gone = self.folder.rename(self.folder.with_name(f".{RANKS_FOLDER}-{self._start}"))
                shutil.rmtree(gone, ignore_errors=True)
            else:
                (self.folder / f"{self.rank}.json").unlink(missing_ok=True)
                self.folder.rmdir()
        with contextlib.suppress(OSError):
            self.run_folder.rmdir()


@contextlib.contextmanager
def watching(backend: Backend, run_folder: Path, hang_seconds: float) -> Iterator[Watchdog | None]:
    """A watchdog while the block runs; None for one rank, or 0 seconds. All ranks."""
    if backend.world_size == 1 or hang_seconds == 0:
        if backend.is_main:
            # Of an earlier start, all of whose ranks were killed.
            shutil.rmtree(run_folder / RANKS_FOLDER, ignore_errors=True)
        yield None
        return
    watchdog = Watchdog(backend, run_folder, hang_seconds)
    try:
        yield watchdog
    except Exception:
        watchdog.close(failed=True)
        raise
    except BaseException:
        watchdog.close()
        raise
    watchdog.close()


def find_groups_of_all(world_size: int) -> list[distributed.ProcessGroup]:
    """torch's own group and its copies, in which ZeRO reduces. All ranks enter their collectives
    in the same order, so that the sum of their counts tells who is behind."""
    groups = list(distributed.distributed_c10d._world.pg_map)
    return [group for group in groups if group.size() == world_size]


def count_collectives(group: distributed.ProcessGroup) -> int:
    """Collectives of a group that this rank has entered."""
    return int(group._get_sequence_number_for_group())  # type: ignore[attr-defined]


def find_late(found: list[Sighting], world_size: int) -> list[Sighting | int]:
    """The ranks that have entered fewer collectives than others, or (a number) never wrote.

    [] when all are at the same one: they all compute, or the network between them is dead.
    """
    most = max((one.collectives for one in found), default=0)
    there = {one.rank: one for one in found}
    every = [there.get(rank, rank) for rank in range(world_size)]
    late = [one for one in every if isinstance(one, int) or one.collectives < most]
    return late if len(late) < world_size else []


def describe_late(late: list[Sighting | int], hang_seconds: float) -> str:
    """One line that names the ranks, their step and where they are."""
    named = [
        f"rank {one} (nothing is known of it)"
        if isinstance(one, int)
        else f"rank {one.rank} at step {one.step + 1} in {one.doing} (pid {one.pid} on {one.host})"
        for one in late[:3]
    ]
    more = f" and {len(late) - 3} more" if len(late) > 3 else ""
    return (
        f"{', '.join(named)}{more} did not come to where all ranks meet within"
        f" {hang_seconds:g} s; all ranks end, nothing saved is lost; look at that machine and start"
        " the same command again (trainer.hang_seconds is the patience)"
    )


def find_line(thread: int | None) -> str:
    """`train_batch (norface/training/stages/nor.py:190)`: the innermost line of a thread that is
    not Python's, torch's or another library's; the innermost of all where there is none."""
    frame = innermost = sys._current_frames().get(thread or 0)
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = frame.f_back
    frame = frame or innermost
    if frame is None:
        return "no line of Python"
    name = frame.f_code.co_filename
    inside = name.startswith(PACKAGE)
    shown = os.path.relpath(name, os.path.dirname(PACKAGE)) if inside else os.path.basename(name)
    return f"{frame.f_code.co_name} ({shown}:{frame.f_lineno})"


def is_library(name: str) -> bool:
    """Whether a file of Python is neither ours nor the user's."""
    if name.startswith(PACKAGE):
        return False
    return "-packages" in name or name.startswith((LIBRARY, "<"))
