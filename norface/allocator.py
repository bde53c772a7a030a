"""Memory of tensors on the CPU: kept by the process, in large pages.

glibc hands large blocks back to the system as soon as they are freed, and the system clears every
page of them again when it gives them out. A training on CPU frees and asks for the same tensors in
every step: without that traffic a MoE block at a batch of 16 takes half the time. Blocks above
32 MB, the most that glibc allows here, still come and go: kept in one heap, they would leave holes
that only smaller ones fit into. For them torch is asked to take pages of 2 MB, which are cleared
five times as fast.
"""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"Numbers of glibc's malloc.h."
MOST, NEVER = 32 * 2**20, 2**31 - 1


def keep_freed_memory() -> bool:
    """Ask for it, for this process and those forked from it; False where there is no glibc.

    To be called before torch makes its first tensor. The peak of memory stays what it was; between
    peaks, less is given back.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, MOST) and mallopt(TRIM_THRESHOLD, NEVER))
