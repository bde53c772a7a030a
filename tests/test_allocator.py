"""Freed memory stays: the resident memory of real processes after all their tensors are gone."""

import subprocess
import sys

CODE = """
import sys, psutil, torch
from norface.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = psutil.Process().memory_info().rss
tensors = [torch.ones(2_000_000) for _ in range(20)]
del tensors
print(psutil.Process().memory_info().rss - before)
"""


def kept_bytes(word: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CODE, word], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_twenty_tensors_of_eight_megabytes_are_gone_and_their_memory_is_there():
    assert kept_bytes("plain") < 20e6 and kept_bytes("keep") > 140e6
