"""A sqlite store of MLflow is there whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from norface.mlflow_client import make_client

PROGRAM = """
import sys
from norface.mlflow_client import import_mlflow, make_client
import_mlflow()
print(make_client(sys.argv[1]).create_experiment(sys.argv[2]))
"""


def start(uri: str, experiment: str, drafts: Path) -> subprocess.Popen[str]:
    """A process that makes the store where it is missing, and an experiment in it."""
    drafts.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, uri, experiment],
        env={**os.environ, "TMPDIR": str(drafts)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_store_survives_a_kill_and_two_makers_at_once(tmp_path):
    store = tmp_path / "runs" / "mlflow.db"
    uri = f"sqlite:///{store}"
    killed = start(uri, "never", tmp_path / "killed")
    deadline = time.monotonic() + 300
    while not any(draft.stat().st_size for draft in (tmp_path / "killed").glob("*/mlflow.db")):
        assert killed.poll() is None and time.monotonic() < deadline, killed.communicate()[0]
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not store.exists()

    both = {name: start(uri, name, tmp_path / name) for name in ("first", "second")}
    for process in both.values():
        text = process.communicate(timeout=300)[0]
        assert process.returncode == 0, text
    found = {one.name for one in make_client(uri).search_experiments()}
    assert found == {"Default", "first", "second"}
    assert sorted(path.name for path in store.parent.iterdir()) == [".mlflow.db.lock", "mlflow.db"]
