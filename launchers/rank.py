"""One rank under somebody else's launcher: runs a `norface` verb and leaves notes for ours.

`accelerate launch` turns every exit code into 1 and hands no SIGUSR1 on, `deepspeed` neither. So
each rank writes its process number and, at the end, its exit code into the folder
NORFACE_RANK_NOTES, where launchers/foreign.py reads them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from norface.cli.main import main as run_verb
from norface.training.preemption import catch_stop_signals

NOTES = "NORFACE_RANK_NOTES"


def main() -> int:
    """Run the verb of the command line; its exit code."""
    folder, rank, words = Path(os.environ[NOTES]), os.environ.get("RANK", "0"), sys.argv[1:]
    # A process that has left its number gets signals; from then on none may be lost.
    trains = words[:1] == ["train"]
    code = 1
    try:
        with catch_stop_signals() if trains else contextlib.nullcontext():
            write_note(folder / f"{rank}.process", os.getpid())
            code = run_verb(words)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    finally:
        write_note(folder / f"{rank}.code", code)
    return code


def write_note(path: Path, number: int) -> None:
    """Write a number so that no reader sees half of it."""
    aside = path.with_suffix(".writing")
    aside.write_text(str(number))
    aside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
