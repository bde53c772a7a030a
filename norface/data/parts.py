"""Work that is split over jobs: `3/16` is the third of sixteen."""

from __future__ import annotations

import re

from norface.errors import ConfigError


def parse_part(text: str) -> tuple[int, int]:
    """'3/16' => (3, 16). Raises ConfigError for what is not I/N with 1 <= I <= N."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"part: found '{text}'; expected I/N with 1 <= I <= N, for example 3/16")
    return int(found[1]), int(found[2])
