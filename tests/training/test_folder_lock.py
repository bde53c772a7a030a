"""Two starts of one run at once: the second is refused, and the first notices nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from ranks import finish, said, start_ranks, tiny_config, wait_for
from runs import assert_same_run

from norface.errors import CheckpointError
from norface.tracking import read_facts
from norface.training import folder_lock
from norface.training.folder_lock import LOCK_FILE


def wait_for_checkpoint(config, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not list((config.root / "run" / "checkpoints").glob("step-*")):
        assert time.monotonic() < deadline, said(config)
        time.sleep(0.02)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_second_start_of_a_run_is_refused_and_harms_nothing(tmp_path, monkeypatch, ranks):
    config = tiny_config(tmp_path / "twice", "slow_s=0.1", "trainer.batch_per_rank=4")
    first = start_ranks(config, ranks)
    wait_for_checkpoint(config)
    monkeypatch.setattr(folder_lock, "PATIENCE_S", 0.5)
    second = start_ranks(config, ranks)
    assert wait_for(second) == [2] * ranks, said(config)
    text = said(config)
    line = f"another start trains this run (process {first[0].pid} on {os.uname().nodename})"
    assert f"{line}; wait for it, cancel it" in text
    assert wait_for(first) == [0] * ranks, said(config)
    alone = tiny_config(tmp_path / "alone", "slow_s=0.1", "trainer.batch_per_rank=4")
    finish(alone, ranks)
    assert_same_run(config, alone)
    assert read_facts(tmp_path / "twice" / "run")["starts"] == 1
    assert not (tmp_path / "twice" / "run" / LOCK_FILE).exists()


def test_a_killed_run_goes_on_although_its_lock_file_is_there(tmp_path, monkeypatch):
    config = tiny_config(tmp_path, "slow_s=0.05")
    (process,) = start_ranks(config)
    wait_for_checkpoint(config)
    os.kill(process.pid, signal.SIGKILL)
    assert wait_for([process]) == [-signal.SIGKILL]
    assert (tmp_path / "run" / LOCK_FILE).exists()
    monkeypatch.setattr(folder_lock, "PATIENCE_S", 0.0)
    finish(config)
    assert "another start" not in said(config) and "going on from step" in said(config)


def test_a_file_system_without_locks_trains_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(folder_lock.errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(folder_lock.fcntl, "lockf", refuse)
    finish(tiny_config(tmp_path))


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write(sys.argv[2])
file.flush()
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("holder", "taken"),
    [
        ("process 7 on dead, job 31", True),
        ("process 7 on dead, job 30", False),
        ("process 7 on dead", False),
        (f"process 7 on {os.uname().nodename}, job 31", False),
    ],
)
def test_a_jobs_next_start_elsewhere_takes_over_what_a_dead_machine_holds(
    tmp_path, monkeypatch, holder, taken
):
    path = tmp_path / LOCK_FILE
    command = [sys.executable, "-c", HOLD, str(path), holder]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        monkeypatch.setattr(folder_lock, "PATIENCE_S", 0.1)
        monkeypatch.setenv(folder_lock.JOB, "31")
        try:
            if taken:
                file = folder_lock.take(tmp_path)
                assert path.read_text() == f"process {os.getpid()} on {os.uname().nodename}, job 31"
                folder_lock.release(file, tmp_path, [])
                assert not path.exists()
            else:
                with pytest.raises(CheckpointError, match="another start trains this run"):
                    folder_lock.take(tmp_path)
                assert path.read_text() == holder
        finally:
            process.kill()
