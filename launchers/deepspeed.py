"""Several ranks of one `norface` command on this machine through the `deepspeed` launcher.

    python -m launchers.deepspeed --ranks 2 -- train nor -c CONFIG \\
        backend.kind=deepspeed backend.deepspeed=configs/deepspeed/zero2.json

Unlike `deepspeed` itself it asserts the number of ranks, hands SIGUSR1, SIGUSR2 and SIGTERM on to
the ranks, and ends with their exit code (75 = saved on request, start again). Any other launcher
starts DeepSpeed's engines as well; on several machines use slurm/ or launchers.submit.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

from launchers.foreign import launch_through
from launchers.local import find_free_port
from norface.cli.arguments import Parser


def build_command(ranks: int, words: Sequence[str]) -> list[str]:
    """The `deepspeed` launcher of `ranks` ranks on this machine, each running `words`."""
    options = [f"--num_gpus={ranks}", f"--master_port={find_free_port()}", "--log_level=error"]
    # Without a host file of its own it would look for /job/hostfile.
    options += [f"--hostfile={os.devnull}", "--module", "--no_local_rank"]
    return [sys.executable, "-m", "deepspeed.launcher.runner", *options, "launchers.rank", *words]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line; returns the ranks' exit code."""
    parser = Parser("python -m launchers.deepspeed", __doc__)
    parser.add_argument("--ranks", type=int, required=True, help="processes to start")
    parser.add_argument("command", nargs="+", help="a norface verb and its arguments, after --")
    options = parser.parse_args(arguments)
    if options.ranks < 1:
        parser.error(f"--ranks: found {options.ranks}; it must be at least 1")
    if importlib.util.find_spec("deepspeed") is None:
        parser.error("DeepSpeed is not installed; pip install norface[deepspeed]")
    import torch

    # It counts ranks by the devices that DeepSpeed sees, and warns where it has to guess.
    device = {} if torch.cuda.is_available() else {"DS_ACCELERATOR": "cpu"}
    return launch_through(
        build_command(options.ranks, options.command),
        ranks=options.ranks,
        here=options.ranks,
        environment=device,
    )


if __name__ == "__main__":
    sys.exit(main())
