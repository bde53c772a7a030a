"""Normalize every face of a folder of shards onto one target identity.

Writes OUT/TARGET/GENERATOR: shards with the source's keys, labels and shard numbers, and set.json.
Start the same command again to go on after an interruption; split the work over jobs by part=I/N.

Example:
  norface normalize -c configs/normalize.yaml generator=runs/nor/generator.safetensors \\
      source=shards/bp4d target_key=bp4d_F001_T1_12 out=normalized/bp4d part=3/16
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from pydantic import Field

from norface.config import Config, load_config


class NormalizeConfig(Config):
    """Settings of `norface normalize`."""

    generator: Path
    "generator.safetensors of a run of `norface train nor`."
    source: Path
    "Folder of shards to normalize."
    out: Path
    "The set is written to OUT/TARGET/GENERATOR."
    target_key: str | None = None
    "Key of the target picture in `target_shards`."
    target_image: Path | None = None
    "Or an aligned square picture file."
    target_shards: Path | None = None
    "Shards that hold the target; null = `source`."
    check_target: bool = True
    "Refuse a target without a face or with an active action unit (`norface targets check`)."
    part: str = "1/1"
    "This job's share of the shards, I/N."
    batch: int = Field(32, gt=0)
    "Faces that go through the generator together."
    device: Literal["auto", "cpu", "cuda"] = "auto"
    "auto = cuda where there is one."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("-c", "--config", type=Path, help="yaml with the settings below")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be written, and stop"
    )
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="key=value",
        help=f"{', '.join(NormalizeConfig.model_fields)}",
    )


def run(args: argparse.Namespace) -> None:
    """Normalize one part."""
    config = load_config(NormalizeConfig, args.config, args.settings)
    from norface.normalize import make_plan, run_plan
    from norface.training.backends.ranks import choose_cuda

    settings = config.model_dump(exclude={"batch"})
    settings["generator_path"] = settings.pop("generator")
    settings["device"] = "cuda" if choose_cuda(config.device) else "cpu"
    plan = make_plan(**settings)
    if args.dry_run:
        missing = len(plan.pending)
        print(
            f"{plan.folder}: {missing} of {len(plan.shards)} shards of part {config.part} to write"
        )
        return
    run_plan(plan, batch=config.batch)
    print(plan.folder)
