"""Subject-exclusive cross-validation of the classifier, settings side by side.

`settings` in the config names what is compared: null trains on the originals alone, a folder adds
a set of normalized faces, an .npz or .parquet file gives features in their place. Folds that are
trained already are not trained again.

Example:
    norface crossval -c configs/cla/synthetic-64.yaml cla.data.shards=[data/folds] \
        settings.without=null settings.norface=data/normalized/TARGET/GENERATOR seeds=[0,1,2]
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("-c", "--config", metavar="CONFIG", help="yaml with the differences")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that win over it"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the folds and stop")


def run(args: argparse.Namespace) -> int:
    """Train the folds that are missing and print the tables."""
    from norface.config import load_config
    from norface.evaluation.protocols import (
        CrossvalConfig,
        cross_validate,
        format_result,
        list_folds,
    )

    config = load_config(CrossvalConfig, args.config, args.overrides)
    if args.dry_run:
        for seed in config.seeds:
            for setting in config.settings:
                for fold in config.only or list_folds(config):
                    print(config.folder / setting / f"seed{seed}" / fold)
        return 0
    result = cross_validate(config)
    print(format_result(result))
    if "settings" in result:
        print(f"\n{config.folder}: crossval.json, and predictions and curves of every fold")
    return 0
