"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

# Some tests fork ranks from this process, and a pool of threads does not survive a fork: whoever
# computes in the child would wait for ever. With one thread there is no pool.
torch.set_num_threads(1)

HERE = Path(__file__).parent
LONGEST = ("slurm", "tune", "quickstart", "training")
"Folders whose tests start first, so that no worker is left alone with them at the end."
CLUSTERS = {"test_pretrain_nor": 1, "test_job_scripts": 1}
"Which of two Slurm clusters, each one worker's, a file of tests runs on; else the other."


def pytest_configure(config: pytest.Config) -> None:
    """`pytest -n 3`: tests are handed out by groups, in the order below."""
    if config.getoption("numprocesses", None):
        config.option.dist, config.option.loadscopereorder = "loadgroup", False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file stays with one worker: its tests share fixtures. Those of Slurm share a cluster."""

    def folder_of(item: pytest.Item) -> str:
        return item.path.relative_to(HERE).parts[0]

    def group_of(item: pytest.Item) -> str:
        if folder_of(item) == "slurm":
            return f"slurm {CLUSTERS.get(item.path.stem, 2)}"
        return str(item.path.relative_to(HERE))

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    order = {folder: place for place, folder in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(folder_of(item), len(order)))
