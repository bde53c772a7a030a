"""slurm/common.sh by itself: ports, and requests to stop that come at the worst moment."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

SCRIPTS = Path(__file__).parents[2] / "slurm"


class Said(NamedTuple):
    """What a piece of bash printed."""

    stdout: str
    stderr: str


def call(folder: Path, lines: str, job: int = 7) -> Said:
    """Lines of bash after common.sh, as a job would run them."""
    text = f'source "{SCRIPTS}/common.sh"; load_setup; {lines}'
    environment = {"PATH": "/usr/bin:/bin", "NORFACE_VENV": sys.prefix, "SLURM_JOB_ID": str(job)}
    # Files, not pipes: what common.sh leaves sleeping would hold those open.
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        subprocess.run(["bash", "-c", text], env=environment, stdout=out, stderr=err, timeout=60)
    return Said((folder / "out").read_text(), (folder / "err").read_text())


def test_ranks_meet_at_a_port_that_nobody_listens_at(tmp_path):
    assert call(tmp_path, "choose_port", job=2700 + 11).stdout == "30011\n"
    with socket.socket() as one, socket.socket() as two:
        for listener, port in ((one, 30011), (two, 30012)):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", port))
            listener.listen()
        assert call(tmp_path, "choose_port", job=11).stdout == "30013\n"
    # The last is followed by the first.
    with socket.socket() as last:
        last.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        last.bind(("", 32699))
        last.listen()
        assert call(tmp_path, "choose_port", job=2699).stdout == "30000\n"


def test_ray_gets_eight_free_ports_in_a_row_on_all_nodes(tmp_path):
    choose = "choose_ports 10000 30000 40 8"
    assert call(tmp_path, f"show_sockets | {choose}", job=500 + 3).stdout == "10120\n"
    with socket.socket() as one, socket.socket(socket.AF_INET6) as two:
        # The last of the job's own eight, on one address only; and the first of the next eight.
        one.bind(("127.0.0.1", 10127))
        two.bind(("::1", 10160))
        for listener in (one, two):
            listener.listen()
        assert call(tmp_path, f"show_sockets | {choose}", job=3).stdout == "10200\n"
    # What another node says counts too: 27D8 is 10200, 0A a socket that listens, 01 one that talks.
    other = "0: 0100007F:{port} 00000000:0000 {state} 00000000:00000000 00:00000000"
    lines = [other.format(port="27D8", state="0A"), other.format(port="2800", state="01")]
    said = call(tmp_path, f"printf '%s\\n' '{lines[0]}' '{lines[1]}' | {choose}", job=5)
    assert said.stdout == "10240\n"


def test_no_free_port_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = call(tmp_path, f"show_sockets | choose_ports {port} {port + 1} 1 1; echo $?")
    assert said.stdout == "2\n" and said.stderr.count("\n") == 1
    assert f"no free ports between {port} and {port + 1} on " in said.stderr


def test_all_scripts_find_what_they_share_in_the_same_way():
    heads = {
        re.search(r"\nset -uo.*?\nsource [^\n]*\n", path.read_text(), re.DOTALL)[0]
        for path in SCRIPTS.glob("*.sh")
        if path.name != "common.sh"
    }
    assert len(heads) == 1


@pytest.mark.parametrize("line", ["child=*", "trap*ask_to_stop*"])
def test_a_request_while_the_ranks_are_being_started_reaches_them(tmp_path, line):
    # bash runs the trap of DEBUG right before such a line of run_and_wait.
    found = call(
        tmp_path,
        f"set -T; trap '[[ $BASH_COMMAND != {line} ]] || kill -USR1 $$' DEBUG;"
        " run_and_wait sleep 50; code=$?; trap - DEBUG; echo code $code; kill $killer",
    )
    assert found.stdout == f"code {128 + signal.SIGUSR1}\n", found
    assert found.stderr.count("asked to stop") == 1


def test_a_request_waits_until_the_child_is_a_program(tmp_path):
    # On one CPU, and without the time that `date` takes, it would meet the child as a copy of bash.
    cpu = min(os.sched_getaffinity(0))
    found = call(
        tmp_path,
        f"taskset -cp {cpu} $$ >/dev/null;"
        " eval \"$(declare -f ask_to_stop | sed 's/$(date +%T)/now/')\";"
        " set -T; trap '[[ $BASH_COMMAND != trap*ask_to_stop* ]] || kill -USR1 $$' DEBUG;"
        " run_and_wait sleep 3; code=$?; trap - DEBUG; echo code $code; kill $killer",
    )
    assert found == Said(
        f"code {128 + signal.SIGUSR1}\n", "now asked to stop: the ranks save and end\n"
    )


def test_a_request_before_anything_was_started_starts_nothing(tmp_path):
    found = call(tmp_path, "kill -USR1 $$; run_and_wait echo started; echo code $?")
    assert found.stdout == "code 75\n"


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_ranks_that_do_not_stop_are_killed_before_the_time_limit(path):
    (grace,) = re.findall(r"NORFACE_GRACE_S:-(\d+)", (SCRIPTS / "common.sh").read_text())
    for seconds in re.findall(r"^#SBATCH --signal=B:USR1@(\d+)$", path.read_text(), re.M):
        # The script kills what is left 10 s after the ranks' own time, then it requeues.
        assert int(seconds) >= int(grace) + 10 + 20
