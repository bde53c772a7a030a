"""Numbers as lists and tables write them."""

from __future__ import annotations

import math
import re

_WHOLE = re.compile(r"(\d+)(?:\.0*)?")


def whole_number(text: str) -> int | None:
    """'12', '0012', '12.0' => 12; None for anything else."""
    match = _WHOLE.fullmatch(text.strip())
    return int(match[1]) if match else None


def to_number(text: str) -> float:
    """A number, NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
