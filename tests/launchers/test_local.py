"""Local ranks: environment, exit codes and signals, on real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launchers.local import launch, main

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NORFACE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_rank_is_told_who_it_is_and_how_many_were_asked_for(tmp_path):
    program = (
        "import json, os, sys; rank = os.environ['RANK'];"
        "json.dump(dict(os.environ), open(f'{sys.argv[1]}/{rank}.json', 'w'))"
    )
    assert launch(python(program, str(tmp_path)), ranks=3) == 0
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    for rank, environment in enumerate(found):
        assert environment["RANK"] == environment["LOCAL_RANK"] == str(rank)
        assert environment["WORLD_SIZE"] == environment["NORFACE_WORLD_SIZE"] == "3"
        assert environment["MASTER_ADDR"] == "127.0.0.1"
    assert len({environment["MASTER_PORT"] for environment in found}) == 1


def test_the_exit_code_is_the_ranks_own():
    assert launch(python("raise SystemExit(75)"), ranks=2) == 75


def test_a_rank_that_fails_takes_the_others_with_it():
    program = "import os, time; os.environ['RANK'] == '1' and exit(3); time.sleep(60)"
    started = time.monotonic()
    assert launch(python(program), ranks=2, grace_s=0.2) == 3
    assert time.monotonic() - started < 20


def test_a_rank_ended_by_a_signal_counts_as_in_a_shell():
    assert launch(python("import os; os.kill(os.getpid(), 9)"), ranks=1) == 128 + 9


def test_a_signal_to_the_launcher_reaches_every_rank(tmp_path):
    program = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))\n"
        "open(f'{sys.argv[1]}/{os.environ[\"RANK\"]}', 'w')\n"
        "time.sleep(60)\n"
    )
    caller = f"from launchers.local import launch; raise SystemExit(launch({python(program, str(tmp_path))!r}, ranks=2))"  # noqa: E501
    process = subprocess.Popen(python(caller), cwd=Path(__file__).parents[2])
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 75


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's death")
def test_ranks_die_with_a_launcher_that_is_killed(tmp_path):
    # They ignore what can be ignored, as a rank does that saves.
    program = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(f'{sys.argv[1]}/{os.getpid()}', 'w')\n"
        "time.sleep(120)\n"
    )
    caller = (
        f"from launchers.local import launch; launch({python(program, str(tmp_path))!r}, ranks=2)"
    )
    launcher = subprocess.Popen(python(caller), cwd=Path(__file__).parents[2])
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    ranks = [int(path.name) for path in tmp_path.iterdir()]
    assert not any(map(gone, ranks))
    launcher.kill()
    launcher.wait()
    wait_until(lambda: all(map(gone, ranks)))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's death")
def test_a_rank_whose_launcher_died_before_it_could_be_told_ends_by_itself(tmp_path):
    # A launcher that forks and is gone before the fork gets to run.
    program = (
        "import os, sys, time\n"
        "from launchers.local import tie_to_this_process\n"
        "launcher, tie = os.getpid(), tie_to_this_process()\n"
        "if os.fork():\n"
        "    os.kill(launcher, 9)\n"
        "while os.getppid() == launcher:\n"
        "    time.sleep(0.01)\n"
        "print('orphan', flush=True)\n"
        "tie()\n"
        "print('trains', flush=True)\n"
    )
    # Until the pipe is closed by both.
    ended = subprocess.run(
        python(program), cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    assert ended.returncode == -signal.SIGKILL and ended.stdout == "orphan\n"


def test_verbs_are_run_on_every_rank(capfd):
    assert main(["--ranks", "2", "--", "--version"]) == 0
    assert capfd.readouterr().out.count("norface ") == 2


def test_a_wrong_verb_is_the_ranks_exit_code_2(capfd):
    assert main(["--ranks", "2", "--", "trian"]) == 2
    assert "unknown verb 'trian'" in capfd.readouterr().err


def test_the_callers_signal_handlers_come_back():
    before = signal.getsignal(signal.SIGUSR1)
    launch(python("pass"), ranks=1)
    assert signal.getsignal(signal.SIGUSR1) == before
    assert "RANK" not in os.environ
