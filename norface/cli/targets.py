"""Target faces: find candidates, check pictures, see originals on several of them.

  choose SHARDS             candidates, one a person: at rest, straight, evenly lit; the best first.
                            --out gets candidates.json (their keys) and candidates.png: look at it,
                            and see that age, gender and ethnicity differ
  check PICTURE ...         is it an aligned face without an active action unit? (with --shards:
                            keys of these shards, labels included)
  grid SHARDS PICTURE ...   faces of SHARDS on every target, as the picture --out (Fig. 4 and 9)

`check` ends with 0 when all can be targets, else with 1. `norface normalize` and `norface analyze`
check their target in the same way; `analyze` takes a photograph too, and aligns
it first. Of photographs MediaPipe's blendshapes are asked, of which one cannot tell AU6 or AU23; of
synthetic faces the packaged reader.

Example:
  norface targets choose shards/bp4d --count 30 --out candidates
  norface targets check target.png
  norface targets check --shards shards/bp4d bp4d_F001_T1_12
  norface targets grid shards/disfa a.png b.png c.png --generator generator.safetensors \\
      --out grid.png
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

ACTIONS = ("choose", "check", "grid")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("places", nargs="+", metavar="WHAT", help="see above")
    parser.add_argument("--count", type=int, default=10, help="choose: candidates (default: 10)")
    parser.add_argument("--shards", type=Path, help="check: the shards whose keys are named")
    parser.add_argument(
        "--synthetic", action="store_true", help="check: the pictures are synthetic faces"
    )
    parser.add_argument("--generator", type=Path, metavar="FILE", help="grid: who normalizes")
    parser.add_argument("--rows", type=int, default=6, help="grid: originals (default: 6)")
    parser.add_argument("--out", type=Path, help="choose: a folder; grid: a PNG file")


def run(args: argparse.Namespace) -> int:
    """Do it; 1 where a checked picture is no target."""
    from norface.errors import ConfigError

    for name in ("count", "rows"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} {getattr(args, name)}: at least 1 is needed")
    if args.action == "choose":
        return run_choose(args)
    return run_check(args) if args.action == "check" else run_grid(args)


def run_choose(args: argparse.Namespace) -> int:
    """Print candidates and write their sheet."""
    from norface.data.shards import ShardIndex
    from norface.errors import ConfigError
    from norface.evaluation.summary import align_columns
    from norface.evaluation.unit_readers import choose_reader
    from norface.images import make_grid, write_png
    from norface.targets import choose_candidates
    from norface.tracking import replacing

    if len(args.places) != 1:
        raise ConfigError(f"choose: expected one folder of shards; found {len(args.places)}")
    index = ShardIndex.open(args.places[0])
    reader = choose_reader("auto", {corpus for corpus, _ in index.persons})
    found = choose_candidates(index, count=args.count, reader=reader)
    rows = [["key", "yaw", "pitch", "strongest AU", "brightness", "unevenness", "oddness"]]
    rows += [
        [one.key, f"{one.pose[0]:+.0f}", f"{one.pose[1]:+.0f}", f"{one.strongest:.1f}",
         f"{one.brightness:.2f}", f"{one.unevenness:.2f}", f"{one.oddness:.0f}"]
        for one in found
    ]  # fmt: skip
    print("\n".join(align_columns(rows)))
    print(f"read by: {reader.name}")
    if len(found) < args.count:
        print(
            f"{len(found)} of {args.count} asked for: these {len(index.persons)} persons have no"
            " more (one each, at rest)"
        )
    if args.out is not None:
        with replacing(args.out / "candidates.json") as aside:
            values = [dataclasses.asdict(one) for one in found]
            aside.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        pictures = [index.read_pixels(index.row_of(one.key)) for one in found]
        sheet = [pictures[start : start + 10] for start in range(0, len(pictures), 10)]
        with replacing(args.out / "candidates.png") as aside:
            write_png(aside, make_grid(sheet))
        print(f"look at {args.out / 'candidates.png'}, in the order of this list")
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Say of every picture whether it can be a target."""
    from norface.data.shards import ShardIndex
    from norface.errors import CorpusError
    from norface.evaluation.unit_readers import SYNTHETIC
    from norface.targets import check_picture, check_row

    index = None if args.shards is None else ShardIndex.open(args.shards)
    refused = 0
    for place in args.places:
        try:
            if index is not None:
                check_row(index, place)
            else:
                check_picture(place, {SYNTHETIC} if args.synthetic else set())
            print(f"{place}: can be a target")
        except CorpusError as error:
            refused += 1
            print(error)
    return 1 if refused else 0


def run_grid(args: argparse.Namespace) -> int:
    """Draw originals x targets."""
    from norface.data.shards import ShardIndex
    from norface.errors import ConfigError
    from norface.files import write_aside
    from norface.images import write_png
    from norface.models.normalizer import load_generator
    from norface.target_grid import choose_originals, draw_grid
    from norface.targets import read_aligned

    if args.generator is None or args.out is None or len(args.places) < 2:
        raise ConfigError("grid: SHARDS, a PICTURE or more, --generator FILE and --out PNG")
    if args.out.suffix.lower() != ".png":
        raise ConfigError(f"{args.out}: the grid is a PNG file; name it something.png")
    index = ShardIndex.open(args.places[0])
    model, _ = load_generator(args.generator)
    targets = [read_aligned(place) for place in args.places[1:]]
    originals = [index.read_pixels(row) for row in choose_originals(index, args.rows)]
    with write_aside(args.out) as temporary:
        write_png(temporary, draw_grid(model, originals, targets))
    print(f"{len(originals)} originals x {len(targets)} targets: look at {args.out}")
    return 0
