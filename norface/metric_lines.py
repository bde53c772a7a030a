"""Files of one JSON object a line, as metrics.jsonl and system.jsonl: appended to, read in part.

A full disk, a killed process or a machine without power can leave a line that is only half there.
The next one begins on a line of its own, and readers go on after it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_told: set[Path] = set()
"Files whose damage this process has spoken of."


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append an object as a line of its own. Raises OSError."""
    data = (json.dumps(line) + "\n").encode()
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            data = data if file.read(1) == b"\n" else b"\n" + data
        file.write(data)


def read_lines(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Lines from byte `start` on, and the byte behind the last one's end; [] where no file is.

    A last line without its end is left for later. What is no object of numbers with a step and a
    time is damaged: it is left out, which is said once a file.
    """
    if not path.exists():
        return [], start
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read().rpartition(b"\n")
    found = [parse_line(text) for text in data[0].split(b"\n") if text]
    lines = [line for line in found if line is not None]
    if len(lines) < len(found) and path not in _told:
        _told.add(path)
        print(
            f"{path}: {len(found) - len(lines)} damaged line(s) left out (a full disk or a killed"
            " process leaves such); all others count",
            file=sys.stderr,
            flush=True,
        )
    return lines, start + len(data[0]) + len(data[1])


def parse_line(text: bytes) -> dict[str, Any] | None:
    """{"step", "time", names: numbers or null} of a line; None where it is anything else."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    whole = (
        isinstance(line, dict)
        and type(line.get("step")) is int
        and isinstance(line.get("time"), (int, float))
        and all(value is None or isinstance(value, (int, float)) for value in line.values())
    )
    return line if whole else None
