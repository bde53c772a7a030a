"""Several ranks of one `norface` command on this machine.

    python -m launchers.local --ranks 2 -- train nor -c configs/nor/pretrain.yaml

Signals reach every rank, a rank that fails takes the others with it, and the exit code is the
ranks' own (75 = saved on request, start again), which torchrun would turn into 1. Where the
launcher itself is killed, its ranks are too (on Linux).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from norface.cli.arguments import Parser

FORWARDED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)
GRACE_S = 30.0
"Seconds that the other ranks have to end after one has failed."
PR_SET_PDEATHSIG = 1
"Linux, prctl(2): the signal that a process gets when the thread that started it is gone."


class Place(NamedTuple):
    """Which machine this is, where several share a run; each starts as many ranks."""

    nodes: int = 1
    node: int = 0
    address: str = "127.0.0.1"
    "Of the first machine."
    port: int = 0
    "Of the first machine; 0 = a free one, for a single machine only."


def launch(
    command: Sequence[str], *, ranks: int, grace_s: float = GRACE_S, place: Place | None = None
) -> int:
    """Run `command` as `ranks` processes; the first exit code that is not 0, or 0.

    A rank that a signal ended counts as 128 + signal, as in a shell.
    """
    place = place or Place()
    environment = {
        **os.environ,
        "MASTER_ADDR": place.address,
        "MASTER_PORT": str(place.port or find_free_port()),
        "WORLD_SIZE": str(ranks * place.nodes),
        "NORFACE_WORLD_SIZE": str(ranks * place.nodes),
    }
    # Ranks that each take every core slow one another down.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
    processes: list[subprocess.Popen[bytes]] = []
    tie = tie_to_this_process()

    def forward(number: int, _frame: object) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    # Own sessions: Ctrl-C reaches the ranks once, through `forward`, not from the terminal too.
    previous = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        for local in range(ranks):
            rank = place.node * ranks + local
            processes.append(
                subprocess.Popen(
                    command,
                    env={**environment, "RANK": str(rank), "LOCAL_RANK": str(local)},
                    start_new_session=True,
                    preexec_fn=tie,
                )
            )
        return wait_for_all(processes, grace_s=grace_s)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)


def tie_to_this_process() -> Callable[[], None] | None:
    """What a rank does before its first instruction, so that it is killed when this process is.

    Killed, not asked to save: whoever starts the same command again must not meet ranks that still
    write to the run folder, and what was saved is whole. Elsewhere than on Linux: None.
    """
    if sys.platform != "linux":
        return None
    # Looked up here: between fork and exec nothing may be imported or loaded.
    prctl, launcher = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # Killed in between: nobody is left whose death could be told.
        if os.getppid() != launcher:
            os._exit(128 + signal.SIGKILL)

    return tie


def wait_for_all(processes: Sequence[subprocess.Popen[bytes]], *, grace_s: float) -> int:
    """Exit code of the run; once a rank has failed the others get `grace_s` and are then killed."""
    code, deadline = 0, float("inf")
    while None in [process.poll() for process in processes]:
        if code == 0:
            code = first_failure(processes)
            if code:
                deadline = time.monotonic() + grace_s
        if time.monotonic() > deadline:
            for process in processes:
                if process.poll() is None:
                    process.kill()
        time.sleep(0.05)
    return code or first_failure(processes)


def first_failure(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """The first exit code that is not 0 among the ranks that have ended, else 0."""
    for process in processes:
        if process.returncode:
            return 128 - process.returncode if process.returncode < 0 else process.returncode
    return 0


def find_free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line; returns the ranks' exit code."""
    parser = Parser("python -m launchers.local", __doc__)
    parser.add_argument("--ranks", type=int, required=True, help="processes to start")
    parser.add_argument("command", nargs="+", help="a norface verb and its arguments, after --")
    options = parser.parse_args(arguments)
    if options.ranks < 1:
        parser.error(f"--ranks: found {options.ranks}; it must be at least 1")
    return launch([sys.executable, "-m", "norface", *options.command], ranks=options.ranks)


if __name__ == "__main__":
    sys.exit(main())
