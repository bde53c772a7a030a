"""Kills `norface prepare` at random moments and compares what the next call ends in.

    python benchmarks/kill_prepare.py --kills 20 --photos 24 --workers 2

Each round starts the command in a new folder, ends it with SIGKILL at a drawn moment after a drawn
number of shards, starts the same command again, and compares every byte with an undisturbed run.
A quarter of the rounds end it while it still imports its libraries or joins its lists. Needs
scikit-image and a .task file (extras dev and faces).
Exit code 1 when any byte differs.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Run the rounds; print a line each and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "photos"
        write_photos(root, args.photos)
        whole = Path(place) / "whole"
        begin = time.monotonic()
        subprocess.run(command(root, whole, args.workers), check=True, capture_output=True)
        length = time.monotonic() - begin
        wanted = digests(whole)
        shards = len(list(whole.glob("*.tar")))
        print(f"undisturbed: {length:.1f} s, {shards} shards, {len(wanted)} files")
        wrong = lost = hit = 0
        for number in range(args.kills):
            out = Path(place) / f"killed{number}"
            process = subprocess.Popen(
                command(root, out, args.workers), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            begin = time.monotonic()
            count = draw.randrange(1, shards) if number % 4 else draw.choice([0, shards])
            wait_for_shards(process, out, count)
            time.sleep(draw.uniform(0, 0.3))
            moment = time.monotonic() - begin
            process.send_signal(signal.SIGKILL)
            process.communicate()
            hit += process.returncode == -signal.SIGKILL
            kept = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
            begun = len(list(out.glob("*.tmp")))
            subprocess.run(command(root, out, args.workers), check=True, capture_output=True)
            again = sum(path.stat().st_mtime_ns != before for path, before in kept.items())
            same = digests(out) == wanted
            wrong += not same
            lost = max(lost, begun + again)
            print(
                f"{number + 1:>3}: killed after {moment:5.1f} s with {len(kept):>2} whole shards,"
                f" {begun} begun; afterwards {'the same bytes' if same else 'OTHER BYTES'}",
                flush=True,
            )
    print(
        f"{args.kills} kills ({hit} before the end): {wrong} with other bytes,"
        f" at most {lost} shards done twice"
    )
    return 1 if wrong else 0


def wait_for_shards(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    """Until `count` shards are whole, or the command has ended."""
    while process.poll() is None and len(list(out.glob("*.tar"))) < count:
        time.sleep(0.002)


def write_photos(root: Path, count: int) -> None:
    """Turned portraits, with a damaged file and an empty picture among them."""
    import skimage.data
    from PIL import Image

    root.mkdir()
    portrait = Image.fromarray(skimage.data.astronaut()).crop((80, 0, 380, 300))
    for number in range(count):
        portrait.rotate(60 * number / count - 30).save(root / f"p{number:03d}.png")
    (root / "p003b.jpg").write_bytes(b"damaged")
    Image.new("RGB", (64, 64)).save(root / "p007b.png")


def command(root: Path, out: Path, workers: int) -> list[str]:
    """The command that is killed."""
    return [
        *(sys.executable, "-m", "norface", "prepare", "folder", str(root), str(out)),
        *("--detector", "mediapipe", "--side", "64", "--samples-per-shard", "3"),
        *("--workers", str(workers)),
    ]


def digests(folder: Path) -> dict[str, str]:
    """Relative path => sha256 of all files, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


if __name__ == "__main__":
    sys.exit(main())
