"""`slurm/mlflow.sh here`: a real tracking server of this machine, with and without passwords."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchers.local import find_free_port
from norface.bench.tracking import answers
from norface.cli.main import main
from norface.tracking import TrackingConfig, open_run

SCRIPT = Path(__file__).parents[2] / "slurm" / "mlflow.sh"
PASSWORD = "a-password-of-this-test"


def environment(**more: str) -> dict[str, str]:
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "NORFACE_VENV": sys.prefix}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "SLURM_"))}
    return {**kept, **quiet, **more}


@contextlib.contextmanager
def server(folder: Path, port: int, **more: str) -> Iterator[None]:
    """The script's server, killed at the end."""
    words = ["bash", str(SCRIPT), "here", "store", f"port={port}"]
    with open(folder / "server.txt", "a") as log:
        process = subprocess.Popen(
            words, cwd=folder, env=environment(**more), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while not answers(port):
            assert time.monotonic() < deadline and process.poll() is None, (
                folder / "server.txt"
            ).read_text()
            time.sleep(0.2)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"NORFACE_MLFLOW_APP": "ldap"}, "found 'ldap'; there is: basic-auth"),
        (
            {"NORFACE_MLFLOW_APP": "basic-auth"},
            "store has no users yet; export MLFLOW_AUTH_ADMIN_PASSWORD",
        ),
    ],
)
def test_what_the_passwords_lack_is_one_line_before_anything_is_queued(tmp_path, variables, said):
    found = subprocess.run(
        ["bash", str(SCRIPT), "store"], cwd=tmp_path, env=environment(**variables),
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 2 and said in found.stderr and found.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_runs_are_fed_with_a_password_only_and_users_lie_beside_the_runs(
    tmp_path, monkeypatch, capsys
):
    pytest.importorskip("flask_wtf", reason="Flask-WTF is not installed: pip install Flask-WTF")
    port = find_free_port()
    uri = f"http://127.0.0.1:{port}"
    run = open_run(tmp_path / "run", kind="test", tracking=TrackingConfig(uri=uri))
    run.log({"loss": 0.5}, step=1)
    run.log_artifact(tmp_path / "run" / "run.json")
    run.finish()
    sync = ["track", "sync", str(tmp_path / "run")]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    passwords = {"NORFACE_MLFLOW_APP": "basic-auth", "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
    with server(tmp_path, port, **passwords):
        assert main(sync) == 2
        assert "not authenticated" in capsys.readouterr().err
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        assert main(sync) == 0
    users = tmp_path / "store" / "basic_auth.db"
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    assert not (tmp_path / "basic_auth.db").exists()
    assert PASSWORD.encode() not in b"".join(
        path.read_bytes() for path in (tmp_path / "store").iterdir() if path.is_file()
    )
    # Once there is a user, no password is needed to start.
    with server(tmp_path, port, NORFACE_MLFLOW_APP="basic-auth"):
        assert main(sync) == 0


@pytest.mark.slow
def test_a_server_that_was_killed_while_it_made_its_store_starts_again(tmp_path):
    port = find_free_port()
    process = subprocess.Popen(
        ["bash", str(SCRIPT), "here", "store", f"port={port}"], cwd=tmp_path, env=environment(),
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    # Its lock is taken: the tables are being made.
    while not (tmp_path / "store" / ".mlflow.db.lock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with server(tmp_path, port):
        assert answers(port)
