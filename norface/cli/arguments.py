"""Command lines: help with an example as it was written, and mistakes in one line."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse's, for `norface`, `launchers` and `tune`. A mistake is one line on stderr that names
    the argument, what was found and where help is; the exit code is 2."""

    def __init__(self, prog: str, description: str | None = None, *, allow_abbrev: bool = True):
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=allow_abbrev,
        )

    def error(self, message: str) -> NoReturn:
        """Ends the process (SystemExit), instead of printing the usage of every option first."""
        line = " ".join(message.splitlines())
        print(f"{self.prog}: {line}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)
