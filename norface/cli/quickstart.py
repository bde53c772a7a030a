"""The whole way on synthetic faces, small: faces, F_nor, normalized faces, three folds, a report.

No GPU and no data are needed. Everything is written below runs/quickstart; look at report.html and
faces.png there. The same command again goes on where it was ended.

Example:
  norface quickstart
  norface quickstart root=/tmp/try normalizer_images=8000 epochs=8
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("-c", "--config", metavar="FILE", help="yaml with what differs")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the sizes")
    parser.add_argument("--dry-run", action="store_true", help="print the sizes and stop")


def run(args: argparse.Namespace) -> None:
    """Run all steps that are not done, and say what came out."""
    from norface.config import load_config
    from norface.quickstart.settings import QuickstartConfig

    config = load_config(QuickstartConfig, args.config, args.overrides)
    if args.dry_run:
        import yaml

        print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")
        return
    from norface.quickstart.pipeline import Quickstart

    summary = Quickstart(config).run()
    print(format_summary(summary))
    print(f"\nlook at  {config.root}/report.html    the report, with curves and tables")
    print(f"         {config.root}/faces.png      originals, normalized and true normalized faces")
    print(f"         {config.root}/summary.json   these figures")
    print(f"         mlflow ui --backend-store-uri sqlite:///{config.root}/mlflow.db")


def format_summary(summary: Mapping[str, Any]) -> str:
    """The figures that matter, in plain words."""

    def f1(name: str) -> str:
        value, low, high = (100 * summary[name][part] for part in ("value", "low", "high"))
        return f"{value:.1f} %  ({low:.1f} to {high:.1f})"

    rows = [
        ("faces nearer to the target than to their own person",
         f"{100 * summary['nearer_to_target']:.1f} %"),
        ("source person recognised from the normalized face",
         f"{100 * summary['source_rank1']:.1f} %  (chance {100 * summary['chance_rank1']:.1f} %,"
         f" from the original {100 * summary['source_rank1_originals']:.1f} %)"),
        ("spread of yaw cut by", f"{100 * summary['yaw_spread_cut']:.1f} %"),
        ("action units: true against read from the normalized face",
         f"r = {summary['au_r']:.2f}  (from the true face {summary['au_r_truth']:.2f})"),
        ("error at mouth and brows, 1 = the bare target", f"{summary['error_ratio']:.2f}"),
        ("F1 of action units, originals alone", f1("f1_without")),
        ("F1 with the normalized faces", f1("f1_norface")),
        ("F1 with the true normalized faces (the ceiling)", f1("f1_truth")),
        ("F1 with the critics' features in their place", f1("f1_critic_features")),
        ("time and memory", f"{summary['wall_s'] / 60:.1f} min, {summary['peak_rss_gib']:.1f} GiB"),
    ]  # fmt: skip
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)
