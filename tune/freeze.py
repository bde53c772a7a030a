"""Frozen code and configs of a sweep that is queued, so that edits made meanwhile do not reach it.

    python -m tune.freeze [--dry-run] CONFIG [key=value ...]

checks the sweep, writes SWEEP/submitted/HASH as launchers/snapshot.py does, with the sweep's config
and its base in it, and prints that folder (--dry-run: only prints).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from launchers.snapshot import CONFIG, FOLDER, tell, write_snapshot
from norface.cli.arguments import Parser
from tune.base import find_base
from tune.sweep import Sweep, load_sweep

FROZEN_BASE = "submitted-base.yaml"
"Found beside the frozen code, as bases that the project ships are."


def freeze_sweep(path: Path, overrides: list[str], *, dry_run: bool = False) -> Path:
    """The snapshot's folder. Raises NorfaceError for what the sweep itself refuses."""
    config = load_sweep(path, overrides)
    Sweep(config)
    frozen = config.model_copy(update={"base": Path(FROZEN_BASE)})
    files = {
        CONFIG: yaml.safe_dump(frozen.model_dump(mode="json"), sort_keys=False),
        FROZEN_BASE: find_base(config.base).read_text(encoding="utf-8"),
    }
    return write_snapshot(config.folder / FOLDER, files, dry_run=dry_run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line; prints the folder."""
    parser = Parser("python -m tune.freeze", __doc__)
    parser.add_argument("config", type=Path, help="yaml of the sweep")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--dry-run", action="store_true", help="only print the folder")
    given = parser.parse_intermixed_args(arguments)
    return tell(
        "tune.freeze", lambda: freeze_sweep(given.config, given.overrides, dry_run=given.dry_run)
    )


if __name__ == "__main__":
    sys.exit(main())
