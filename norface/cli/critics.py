"""The frozen judges of F_nor: which there are, whether a config's work, and how hard each pulls.

  list     every kind and source, whether its weights are here, the licence, where to get them
  check    load every critic of a config; its card, sha256, speed, features and gradient
  shares   each loss's share of the gradient in the normalized picture, under both norms
  features what expression and eyebrow critics read of every face, into --out FILE.npz, which is
           data.features of `norface train cla`, experiments.NAME.features of `norface paper table9`

`check` ends with 0 when all is well, else with 1.

Example:
  norface critics list
  norface critics check -c configs/nor/pretrain.yaml critics.identity.source=arcface \\
      critics.identity.weights=backbone.pt critics.identity.accept_licence=true losses.id=10
  norface critics shares -c configs/nor/synthetic-64.yaml data.shards=[shards/normalizer]
  norface critics features -c configs/nor/pretrain.yaml data.shards=[shards/bp4d] --out bp4d.npz
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from norface.critics.catalogue import Listing
    from norface.critics.checking import Finding

ACTIONS = ("list", "check", "shares", "features")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="yaml with `critics:`, as of stage nor"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config")
    parser.add_argument(
        "--device", default="cpu", help="check, features: where to ask them (cpu, cuda)"
    )
    parser.add_argument(
        "--side", type=int, default=256, help="check: side of the pictures shown, in pixels"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.npz", help="features: where they go")
    parser.add_argument("--json", action="store_true", help="print the findings as json")


def run(arguments: argparse.Namespace) -> int:
    """Do it, print it; 1 when a critic is unfit."""
    if arguments.action == "list":
        return run_list(arguments)
    if arguments.action == "features":
        return run_features(arguments)
    return run_check(arguments) if arguments.action == "check" else run_shares(arguments)


def run_list(arguments: argparse.Namespace) -> int:
    """Print what there is."""
    from norface.critics.catalogue import list_critics
    from norface.errors import ConfigError

    if arguments.config or arguments.overrides:
        raise ConfigError("list: takes no config; `norface critics check -c FILE` looks at one")
    lines = list_critics()
    if arguments.json:
        print(json.dumps([line.model_dump(mode="json") for line in lines], indent=2))
    else:
        print(format_list(lines))
    return 0


def format_list(lines: list[Listing]) -> str:
    """A table of kinds and sources, then a paragraph a source."""
    text = [f"{'kind':<11}{'source':<13}{'state':<9}file, or what to do"]
    text += [f"{one.kind:<11}{one.source:<13}{one.state:<9}{one.found}" for one in lines]
    for source, offer in {line.source: line.offer for line in lines}.items():
        asks = "; needs accept_licence=true" if offer.research_only else ""
        text += ["", f"{source}: {offer.name}", f"  licence  {offer.licence}{asks}"]
        text += textwrap.wrap(
            f"  weights  {offer.where}", 98, subsequent_indent=" " * 11, break_on_hyphens=False
        )
    return "\n".join(text)


def run_check(arguments: argparse.Namespace) -> int:
    """Load and ask every critic of the config; 1 when any is unfit."""
    from norface.config import load_config
    from norface.critics.checking import CheckConfig, check_critics, find_unjudged

    config = load_config(CheckConfig, arguments.config, arguments.overrides)
    findings = check_critics(config, device=arguments.device, side=arguments.side)
    unjudged = find_unjudged(config)
    if arguments.json:
        values = [one.model_dump(mode="json") for one in findings]
        print(json.dumps({"critics": values, "problems": unjudged}, indent=2))
    else:
        print("\n\n".join(format_finding(one) for one in findings))
        count = sum(bool(one.problems) for one in findings) + len(unjudged)
        print("".join(f"\nproblem: {line}" for line in unjudged))
        print(f"{count} problems" if count else "sound: every critic answers")
    return 1 if unjudged or any(one.problems for one in findings) else 0


def format_finding(one: Finding) -> str:
    """A paragraph on one critic."""
    lines = [f"{one.kind}: {one.card.name if one.card else one.source}"]
    if one.card:
        lines += [
            f"  source    {one.card.source}",
            f"  licence   {one.card.licence}",
            f"  sha256    {one.card.sha256}",
            f"  looks at  {one.card.input_side}x{one.card.input_side}, {one.parameters:,} numbers",
        ]
        lines += [f"  notes     {one.card.notes}"] if one.card.notes else []
    if one.synthetic and one.gradient is not None:
        shapes = " and ".join("x".join(map(str, shape)) for shape in one.shapes)
        ranges = [("synthetic faces", one.synthetic), ("the shards", one.shards)]
        shown = ", ".join(f"{b[0]:.3g} to {b[1]:.3g} on {name}" for name, b in ranges if b)
        lines += [
            f"  features  {shapes}; {shown}",
            f"  gradient  {one.gradient:.3g}; bf16 moves features by {one.bf16:.1e} of their size",
            f"  speed     {one.milliseconds:.0f} ms a picture, there and back",
        ]
    return "\n".join(lines + [f"  problem   {problem}" for problem in one.problems])


def run_shares(arguments: argparse.Namespace) -> int:
    """Print each term's loss and share under both norms."""
    from norface.config import load_config
    from norface.training.stages.nor_config import NorConfig
    from norface.training.stages.nor_shares import format_shares, measure_shares

    config = load_config(NorConfig, arguments.config, arguments.overrides)
    table = measure_shares(config)
    print(json.dumps(table, indent=2) if arguments.json else format_shares(table))
    return 0


def run_features(arguments: argparse.Namespace) -> int:
    """Write what critics read of every face."""
    from norface.config import load_config
    from norface.critics.checking import CheckConfig
    from norface.critics.features import write_features
    from norface.devices import read_device
    from norface.errors import ConfigError

    config = load_config(CheckConfig, arguments.config, arguments.overrides)
    if arguments.out is None:
        raise ConfigError("--out: must be set; the file that the features are written to, FILE.npz")
    if not config.data.shards:
        raise ConfigError("data.shards: must be set; folders of shards, data.shards=[FOLDER]")
    faces, width = write_features(
        config.data.shards, arguments.out, config.critics, device=read_device(arguments.device)
    )
    print(f"{width} features of {faces} faces in {arguments.out}")
    return 0
