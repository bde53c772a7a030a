"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch

# Processes that tests start compute with one thread, too: several tests run side by side, and
# threads that wait for a core hold up all others of their process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Some tests fork ranks from this process, and a pool of threads does not survive a fork: whoever
# computes in the child would wait for ever. With one thread there is no pool.
torch.set_num_threads(1)

HERE = Path(__file__).parent
LONGEST = (
    "slurm", "tune", "quickstart", "training", "bench", "launchers", "paper",
    "test_tracking_server.py", "test_exporting.py", "test_tracking.py", "data",
)  # fmt: skip
"Folders and files whose tests start first: no worker is left alone with them at the end."
CLUSTERS = {"test_pretrain_nor": 1, "test_job_scripts": 1}
"Which of two Slurm clusters, each one worker's, a file of tests runs on; else the other."


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`pytest -n 3`: a file stays with one worker, since its tests share fixtures; files of Slurm
    share a cluster. They are handed out in the order below."""
    from xdist.scheduler import LoadScopeScheduling

    class FileScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = PurePosixPath(nodeid.partition("::")[0])
            if "slurm" in path.parts:
                return f"slurm {CLUSTERS.get(path.stem, 2)}"
            return str(path)

    config.option.loadscopereorder = False
    return FileScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest folders and files first."""
    order = {folder: place for place, folder in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.relative_to(HERE).parts[0], len(order)))
