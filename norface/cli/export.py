"""Write shards as a folder that can be released: pictures, labels.csv, a card and check sums.

Pictures are the JPEG files of the shards, byte for byte; labels.csv is what `norface prepare folder
OUT/pictures SHARDS labels=OUT/labels.csv` reads. README.md says what is there, with counts, labels
and licence, and of a normalized set its target and generator. Landmarks and pose of synthetic faces
are not exported. OUT is there whole or not at all.

Say under which terms the pictures may be used: most corpora do not allow to hand on their pictures,
some not even normalized ones.

Example:
  norface export normalized/rafdb/TARGET/GENERATOR release --licence "for research only, see ..."
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="shards or a normalized set")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder, new or empty")
    parser.add_argument("--licence", metavar="TEXT", help="terms of use, for the card; needed")


def run(args: argparse.Namespace) -> None:
    """Export and say where to look."""
    from norface.data.exporting import CARD, export_shards
    from norface.errors import ConfigError

    if args.licence is None:
        raise ConfigError(
            "--licence TEXT is needed: a release says under which terms its pictures may be used"
        )
    done = export_shards(args.shards, args.out, licence=args.licence)
    print(
        f"{done.pictures} pictures, {done.bytes / 1e6:.1f} MB, in {args.out}; read"
        f" {args.out / CARD} before you hand it on"
    )
