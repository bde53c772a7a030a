"""Train one stage: mae (masked pre-training of the face encoder), critic (judges of the synthetic
world), nor (the normalization network) or cla (the classifier).

Example:
    norface train nor -c configs/nor/pretrain.yaml data.workers=4 trainer.images=200000

Several ranks on this machine:
    python -m launchers.local --ranks 2 -- train nor -c configs/nor/pretrain.yaml

The same command again goes on from the newest whole checkpoint of ROOT/NAME. On SIGUSR1, SIGUSR2
or SIGTERM it saves at the next step and ends with exit code 75: start it again to go on.
"""

from __future__ import annotations

import argparse
import math
import os
import sys

from norface.training.preemption import catch_stop_signals
from norface.training.stages import STAGES, load_stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage", metavar="STAGE", help=f"one of: {', '.join(STAGES)}")
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="yaml with what differs from the defaults"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved config and the steps; start nothing",
    )


def run(args: argparse.Namespace) -> int:
    # From here on, so that a signal during the imports (seconds) is not lost.
    with catch_stop_signals():
        config_class, stage_class = load_stage(args.stage)
        from norface.config import load_config

        config = load_config(config_class, args.config, args.overrides)
        if args.dry_run:
            import yaml

            ranks = config.backend.world_size or int(os.environ.get("WORLD_SIZE") or 1)
            batch = config.trainer.batch_per_rank * ranks
            print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")
            print(
                f"# {args.stage}: {math.ceil(config.trainer.images / batch)} steps of {batch}"
                f" pictures ({ranks} ranks), run folder {config.root / config.name}"
            )
            return 0
        from norface.training.run import run_stage

        folder = run_stage(stage_class, config)
        if os.environ.get("RANK", "0") == "0":
            print(f"done: {folder}", file=sys.stderr)
    return 0
