"""Bring MLflow up to date with run folders, after a run without network or with a server down.

Example:
    norface track sync runs/pretrain runs/crossval/fold-*
    norface track sync runs/pretrain --uri http://127.0.0.1:5000

Feeding a run twice changes nothing: what MLflow has already, by metric and step, is not sent again.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["sync"], help="sync = send what MLflow has not got yet")
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUNFOLDER")
    parser.add_argument("--uri", help="another store than the one of the run's config")


def run(args: argparse.Namespace) -> None:
    from norface.mlflow_feed import sync

    sync(args.folders, args.uri)
