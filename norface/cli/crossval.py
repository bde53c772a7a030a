"""Subject-exclusive cross-validation of the classifier, settings side by side.

`settings` in the config names what is compared: null trains on the originals alone, a folder adds
a set of normalized faces, an .npz or .parquet file gives features in their place. Folds that are
trained already are not trained again. A setting may also change the classifier itself.

Folds can be jobs of their own: part=2/9 trains the second of nine shares, --collect summarizes them
afterwards (slurm/crossval.sh does both).

Example:
    norface crossval -c configs/cla/synthetic-64.yaml cla.data.shards=[data/folds] \
        settings.without=null settings.norface=data/normalized/TARGET/GENERATOR seeds=[0,1,2] \
        settings.one_expert.cla.model.moe='{experts: 1, top_k: 1}'
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
    parser.add_argument(
        "--collect", action="store_true", help="train nothing; summarize what other jobs trained"
    )


def run(args: argparse.Namespace) -> int:
    """Train the folds that are missing and print the tables."""
    import os

    from norface.config import load_config
    from norface.evaluation.collecting import format_result
    from norface.evaluation.crossval_config import CrossvalConfig, list_tasks
    from norface.evaluation.protocols import collect_crossval, cross_validate
    from norface.training.preemption import catch_stop_signals

    config = load_config(CrossvalConfig, args.config, args.overrides)
    if args.dry_run:
        for task in list_tasks(config):
            print(config.folder / task.name)
        return 0
    if args.collect:
        result = collect_crossval(config)
    else:
        with catch_stop_signals():
            result = cross_validate(config)
    if os.environ.get("RANK", "0") != "0":
        return 0
    print(format_result(result))
    if "settings" in result:
        print(f"\n{config.folder}: crossval.json, and predictions and curves of every fold")
    return 0
