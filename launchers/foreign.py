"""Ranks started by somebody else's launcher, with signals and exit codes as under launchers.local.

The launcher starts `launchers.rank` on every rank of this machine; that leaves its process number
and exit code in a folder of notes (see there).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launchers.local import FORWARDED
from launchers.rank import NOTES
from norface.training.preemption import RESUME_CODE

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launch_through(
    command: Sequence[str], *, ranks: int, here: int, environment: Mapping[str, str] | None = None
) -> int:
    """Run a launcher that starts `here` of `ranks` ranks as `launchers.rank`; the exit code.

    The ranks refuse to run unless they are `ranks` in all. The code is 0, else the ranks' own (2 =
    the user's mistake before any other, 75 = all saved on request), else the launcher's.
    """
    own = {k: v for k, v in os.environ.items() if k not in RANK_VARIABLES}
    own.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // here)))
    with tempfile.TemporaryDirectory(prefix="norface-ranks-") as notes:
        own |= {"NORFACE_WORLD_SIZE": str(ranks), NOTES: notes, **(environment or {})}
        asked: list[int] = []
        # Handlers only note the signal: the loop hands it on once the ranks are there to take it.
        before = {
            number: signal.signal(number, lambda n, _frame: asked.append(n)) for number in FORWARDED
        }
        process = subprocess.Popen(command, env=own, start_new_session=True)
        try:
            while process.poll() is None:
                if asked and len(read_notes(Path(notes), "process")) == here:
                    number = asked.pop(0)
                    for rank in read_notes(Path(notes), "process").values():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(rank, number)
                time.sleep(0.05)
            codes = list(read_notes(Path(notes), "code").values())
            return choose_code(process.returncode, codes)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)


def read_notes(folder: Path, kind: str) -> dict[int, int]:
    """Rank => the number that it noted: its `process`, or the `code` that it ended with."""
    return {int(path.stem): int(path.read_text()) for path in folder.glob(f"*.{kind}")}


def choose_code(launcher: int, ranks: Sequence[int]) -> int:
    """The exit code of a run from its launcher's and those of the ranks that ended by themselves.

    A rank that a signal ended left no code: the run has then failed, whatever the others say.
    """
    if launcher == 0:
        return 0
    failed = [code for code in ranks if code != 0]
    if 2 in failed:
        return 2
    others = [code for code in failed if code != RESUME_CODE]
    if others:
        return others[0]
    if failed and len(failed) == len(ranks):
        return RESUME_CODE
    return 128 - launcher if launcher < 0 else launcher
