"""Several ranks of one `norface` command through `accelerate launch`.

    python -m launchers.accelerate --ranks 2 -- train nor -c configs/nor/pretrain.yaml
    python -m launchers.accelerate --ranks 16 --config configs/accelerate/multi-node.yaml \\
        --node-rank 1 --main node1:29500 -- train nor -c CONFIG        (on each of its machines)

Unlike `accelerate launch` itself it asserts the number of ranks, hands SIGUSR1, SIGUSR2 and SIGTERM
on to the ranks, and ends with their exit code (75 = saved on request, start again).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from launchers.foreign import launch_through
from launchers.local import find_free_port
from norface.cli.arguments import Parser


def build_command(
    ranks: int,
    words: Sequence[str],
    *,
    config: Path | None = None,
    node_rank: int | None = None,
    main: str | None = None,
) -> list[str]:
    """`accelerate launch` of `ranks` ranks, all machines together, each running `words`."""
    command = [sys.executable, "-m", "accelerate.commands.launch", f"--num_processes={ranks}"]
    if config is not None:
        command.append(f"--config_file={config}")
    else:
        command += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
        # Accelerate's name for starting ranks by torchrun, on CPUs too.
        command += ["--multi_gpu"] if ranks > 1 else []
    if node_rank is not None:
        command.append(f"--machine_rank={node_rank}")
    if main is not None:
        host, _, port = main.rpartition(":")
        command += [f"--main_process_ip={host}", f"--main_process_port={port}"]
    elif count_machines(config) == 1:
        command.append(f"--main_process_port={find_free_port()}")
    return [*command, "-m", "launchers.rank", *words]


def count_machines(config: Path | None) -> int:
    """Machines that an Accelerate config names."""
    if config is None:
        return 1
    return int((yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("num_machines", 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line; returns the ranks' exit code."""
    parser = Parser("python -m launchers.accelerate", __doc__)
    parser.add_argument("--ranks", type=int, required=True, help="ranks on all machines together")
    parser.add_argument("--config", type=Path, help="a yaml of configs/accelerate")
    parser.add_argument("--node-rank", type=int, help="number of this machine, from 0")
    parser.add_argument("--main", metavar="HOST:PORT", help="where rank 0 listens")
    parser.add_argument("command", nargs="+", help="a norface verb and its arguments, after --")
    options = parser.parse_args(arguments)
    try:
        machines = count_machines(options.config)
    except (OSError, ValueError, yaml.YAMLError, AttributeError) as error:
        parser.error(f"--config: {options.config}: cannot be read ({error})")
    if options.ranks < 1 or options.ranks % machines:
        parser.error(f"--ranks: found {options.ranks}; must be a multiple of {machines} machines")
    if options.main is not None and not options.main.rpartition(":")[2].isdigit():
        parser.error(f"--main: found {options.main}; expected HOST:PORT")
    command = build_command(
        options.ranks,
        options.command,
        config=options.config,
        node_rank=options.node_rank,
        main=options.main,
    )
    return launch_through(command, ranks=options.ranks, here=options.ranks // machines)


if __name__ == "__main__":
    sys.exit(main())
