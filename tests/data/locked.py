"""Folders that may not be read, also by root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLAIN = ["setpriv", "--inh-caps=-dac_override,-dac_read_search",
         "--bounding-set=-dac_override,-dac_read_search"]  # fmt: skip
"Runs a command as root whom permissions concern."


def run_locked(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """`norface WORDS` while `folder` may not be read; skips where that cannot be had."""
    command = [] if os.geteuid() else PLAIN
    if command and shutil.which(command[0]) is None:
        pytest.skip("setpriv (util-linux) is needed where root runs the tests")
    mode = folder.stat().st_mode
    folder.chmod(0)
    try:
        if subprocess.run([*command, "ls", str(folder)], capture_output=True).returncode == 0:
            pytest.skip("this machine does not let root give up reading everything")
        return subprocess.run(
            [*command, sys.executable, "-m", "norface", *words], capture_output=True, text=True
        )
    finally:
        folder.chmod(mode)
