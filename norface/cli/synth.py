"""Write the embedded corpus: synthetic faces with exact action units, in shards.

Persons come from one of three pools that never share one: critics, normalizer, folds. OUT gets the
shards, index.parquet, and contact_sheet.png: look at it. The same command again takes up a job that
was killed.

With --truth SHARDS --target KEY it renders the faces of SHARDS as the person of KEY, in KEY's pose,
light and place: the true normalized faces, as the set OUT/KEY/truth. They measure; nothing may be
trained on them but the ceiling.

With --layout CORPUS it writes the official folder of that corpus instead, oddities included, for
`norface prepare CORPUS OUT ...` to read: a rehearsal before the licence arrives.

Example:
  norface synth shards/folds --pool folds --subjects 30 --frames 40 --side 64
  norface synth normalized/folds --truth shards/folds --target synthetic_S200003_seed0_7
  norface synth faces.png --sheet
  norface synth rehearsal/DISFA --layout disfa --subjects 9
"""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULTS = {"subjects": 30, "frames": 40, "side": 256}
"Of everything but --layout, which has its own: a corpus may have fewer persons."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder, new or empty")
    parser.add_argument("--pool", default="folds", help="critics, normalizer or folds (default)")
    parser.add_argument("--subjects", type=int, help="persons (default: 30; 6 in a layout)")
    parser.add_argument("--first-subject", type=int, default=0, help="within the pool (default: 0)")
    parser.add_argument(
        "--clip-frames",
        type=int,
        default=0,
        metavar="N",
        help="every N pictures of a person are a clip of one place, light and pose, which begins"
        " at rest (default: 0, photographs)",
    )
    parser.add_argument(
        "--frames",
        type=int,
        help="pictures a person (default: 40; 20 a person and clip in a layout, at least 4)",
    )
    parser.add_argument(
        "--side", type=int, help="of the pictures (default: 256; 160 for a face in a layout)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the frames (default: 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--truth", type=Path, metavar="SHARDS", help="render these as the target")
    parser.add_argument("--target", metavar="KEY", help="whom --truth renders")
    parser.add_argument(
        "--target-shards", type=Path, metavar="SHARDS", help="where KEY is (default: --truth's)"
    )
    parser.add_argument(
        "--layout", metavar="CORPUS", help="write the official folder of this corpus"
    )
    parser.add_argument(
        "--sheet", action="store_true", help="only draw a contact sheet, to the PNG file OUT"
    )


def run(args: argparse.Namespace) -> None:
    """Render and say where to look."""
    from norface.errors import ConfigError, CorpusError
    from norface.synthetic import corpus

    if (args.truth is None) != (args.target is None):
        raise ConfigError("--truth SHARDS and --target KEY belong together; give both or none")
    if args.layout is None or args.sheet:
        for name, value in DEFAULTS.items():
            if getattr(args, name) is None:
                setattr(args, name, value)
    if args.sheet:
        if args.out.suffix.lower() != ".png":
            raise ConfigError(f"{args.out}: --sheet writes a PNG file; name it something.png")
        try:
            corpus.write_contact_sheet(
                args.out, pool=args.pool, subjects=min(args.subjects, 8),
                frames=min(args.frames, 8), seed=args.seed, first_subject=args.first_subject,
                clip_frames=args.clip_frames,
            )  # fmt: skip
        except OSError as error:
            raise CorpusError(f"{args.out}: cannot be written ({error.strerror})") from None
        print(f"look at {args.out}")
    elif args.layout is not None:
        from norface.config import load_config
        from norface.synthetic.layouts.base import LayoutSettings, write_layout

        names = ("subjects", "frames", "side", "seed", "pool")
        given = [(name, getattr(args, name)) for name in names]
        settings = load_config(
            LayoutSettings, overrides=[f"{name}={one}" for name, one in given if one is not None]
        )
        found = write_layout(args.layout, args.out, settings)
        print(f"{len(found)} labelled faces in the layout of {args.layout} in {args.out}")
    elif args.truth is not None:
        folder = corpus.write_truth(
            args.truth, args.target, args.out, target_shards=args.target_shards,
            workers=args.workers,
        )  # fmt: skip
        print(f"true normalized faces in {folder}")
    else:
        folder = corpus.write_corpus(
            args.out, pool=args.pool, subjects=args.subjects, frames=args.frames, side=args.side,
            seed=args.seed, first_subject=args.first_subject, clip_frames=args.clip_frames,
            workers=args.workers,
        )  # fmt: skip
        print(f"{args.subjects * args.frames} faces of {args.subjects} subjects in {folder};"
              f" look at {folder / corpus.SHEET_NAME}")  # fmt: skip
