"""Kills trainings at random moments and compares what they end in, bit for bit.

    python benchmarks/kill_training.py --kills 20 mae nor cla --ranks 1 2

Each setting trains a small network of a real stage undisturbed, then the same again while SIGKILL
ends a drawn rank at drawn moments: while it is built, reads, trains, draws a grid or saves. After
each kill the same command goes on. Exports (the averaged generator among them), metrics.jsonl and
the last checkpoint (weights, averages, optimizers) must be those of the undisturbed run. Ranks are
forked from this process, so that a start takes no seconds of importing. Exit code 1 when a bit
differs.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training"))


def main() -> int:
    """Run the settings; print a line a kill and a verdict each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", default=["mae", "nor", "cla"])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", dest="changes")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from kills import survive
    from ranks import finish
    from tiny_stages import load_tiny, write_material

    wrong = 0
    with tempfile.TemporaryDirectory(prefix="norface-kills-") as place:
        material = write_material(Path(place) / "material")
        for kind in args.stages:
            for ranks in args.ranks:
                name = f"{kind}, {ranks} ranks" if ranks > 1 else f"{kind}, 1 rank"
                changes = [f"trainer.batch_per_rank={8 // ranks}", *args.changes]
                root = Path(place) / f"{kind}-{ranks}"
                stage, whole = load_tiny(kind, material, root / "undisturbed", *changes)
                begin = time.monotonic()
                finish(whole, ranks, stage=stage)
                length = time.monotonic() - begin
                print(f"{name}: undisturbed in {length:.1f} s", flush=True)
                _, disturbed = load_tiny(kind, material, root / "disturbed", *changes)
                try:
                    compared = survive(
                        stage,
                        disturbed,
                        whole,
                        ranks=ranks,
                        kills=args.kills,
                        chance=random.Random(f"{args.seed} {name}"),
                        longest_s=1.1 * length,
                        tell=lambda text, name=name: print(f"{name}: {text}", flush=True),
                    )
                except AssertionError as error:
                    wrong += 1
                    print(f"{name}: OTHER BITS OR CODES: {error}", flush=True)
                else:
                    print(f"{name}: {args.kills} kills, {compared} runs, the same bits", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
