"""How good F_nor becomes at 128x128 within two and a half hours on two CPU cores.

    python benchmarks/normalizer_128.py runs/normalizer-128

Renders faces, trains the reader of configs/critic/reader-large.yaml and, from it, the F_nor of
configs/nor/synthetic-128.yaml, and normalizes people whom neither ever met.
Printed are what each step took, the figures of `norface quickstart` (judges that no loss used), and
how well the reader that F_nor starts from does on the same originals, and which error its readings
alone would leave. FOLDER/faces.png shows
originals, normalized and true normalized faces. The same command goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from norface.config import load_config
from norface.data.shards import ShardIndex
from norface.evaluation.normalization import intensity_correlation
from norface.images import write_png
from norface.models.face_networks import UNITS, load_face_network
from norface.normalize import normalize_shards
from norface.quickstart.measure import (
    REPORTED,
    Faces,
    draw_faces,
    measure_error,
    measure_normalization,
    run_batches,
    target_parameters,
)
from norface.synthetic.corpus import write_corpus, write_truth
from norface.synthetic.renderer import render_batch
from norface.training.stages.nor_config import NorConfig

PROJECT = Path(__file__).resolve().parents[1]
READER, NORMALIZER = "critic/reader-large.yaml", "nor/synthetic-128.yaml"
SIDE = 128
FIRST_TARGET = 160
"The target's person comes after those that F_nor is trained on, in the same pool."
FIRST_FOLD = 1000
"The people who are measured: not those of `norface quickstart`."


def main() -> int:
    """Render, train, normalize, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--critic-subjects", type=int, default=40_000, help="that the reader sees")
    parser.add_argument("--reader-images", type=int, help="that it is trained on (config's)")
    parser.add_argument("--images", type=int, help="that F_nor is trained on (config's)")
    parser.add_argument(
        "--normalizer-subjects", type=int, default=FIRST_TARGET, help="that F_nor is trained on"
    )
    parser.add_argument("--clip", type=int, default=1600, help="pictures of the target")
    parser.add_argument("--target", metavar="KEY", help="which of them is the target (config's)")
    parser.add_argument("--subjects", type=int, default=36, help="people who are measured")
    parser.add_argument("--frames", type=int, default=24, help="pictures of each")
    parser.add_argument("--renders", type=int, default=600, help="that judge the action units")
    parser.add_argument("--ranks", type=int, default=os.cpu_count() or 1, help="of the reader")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(args.folder)  # where the configs' relative paths are
    took = Times(Path("times.json"))

    with took("render"):
        render("data/critics", "critics", args.critic_subjects, 3, side=64)
        render("shards-128/normalizer", "normalizer", args.normalizer_subjects, 24)
        render("shards-128/target", "normalizer", 1, args.clip, FIRST_TARGET, clip=args.clip)
        folds = render("shards-128/folds", "folds", args.subjects, args.frames, FIRST_FOLD)
    with took("reader"):
        train("critic", READER, args.ranks, images(args.reader_images))
    with took("F_nor"):
        aim = [f"target_pool.keys=[{args.target}]"] if args.target else []
        train("nor", NORMALIZER, 1, [*images(args.images), *aim])
    config = load_config(NorConfig, PROJECT / "configs" / NORMALIZER, aim)
    assert config.target_pool is not None and config.target_pool.keys is not None
    key, target = config.target_pool.keys[0], Path("shards-128/target")
    generator = Path("runs") / config.name / "generator.safetensors"
    common = {"target_key": key, "target_shards": target}
    with took("normalize"):
        normalized = normalize_shards(generator, folds, Path("normalized"), **common)
    with took("truth, measure"):
        truth = write_truth(
            folds, key, Path("normalized"), target_shards=target, workers=os.cpu_count() or 1
        )
        sets = [ShardIndex.open(one) for one in (folds, normalized, truth, target)]
        figures, faces = measure_normalization(*sets, key, renders=args.renders, seed=0)
        figures |= measure_reader(sets[0], sets[3], key, faces, Path(str(config.encoder_weights)))
    write_png(Path("faces.png"), draw_faces(faces))
    Path("figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))
    print(took)
    return 0


class Times:
    """Seconds of each step, kept over several starts of the script."""

    def __init__(self, path: Path):
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began
            self.path.write_text(json.dumps(self.seconds, indent=1) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        steps = [f"{name} {seconds / 60:.1f}" for name, seconds in self.seconds.items()]
        return f"minutes: {', '.join(steps)}; all {sum(self.seconds.values()) / 60:.1f}"


def render(
    folder: str, pool: str, subjects: int, frames: int, first: int = 0, *, clip: int = 0,
    side: int = SIDE,
) -> Path:  # fmt: skip
    """Shards of synthetic faces, unless they are there."""
    return write_corpus(
        Path(folder), pool=pool, subjects=subjects, frames=frames, first_subject=first, side=side,
        clip_frames=clip, workers=os.cpu_count() or 1,
    )  # fmt: skip


def images(count: int | None) -> list[str]:
    """The length of a training as key=value, where it is not the config's."""
    return [] if count is None else [f"trainer.images={count}"]


def train(stage: str, config: str, ranks: int, changes: list[str]) -> None:
    """`norface train STAGE -c CONFIG key=value ...` on so many ranks of one machine."""
    command = [sys.executable, "-m", "launchers.local", "--ranks", str(ranks), "--"]
    command += ["train", stage, "-c", str(PROJECT / "configs" / config), "backend.device=cpu"]
    command += changes
    threads = max((os.cpu_count() or 1) // ranks, 1)
    environment = {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": str(threads), **os.environ}
    subprocess.run(command, check=True, env=environment)


def measure_reader(
    originals: ShardIndex, people: ShardIndex, key: str, faces: Faces, weights: Path
) -> dict[str, float]:
    """How well the encoder's reader does on the originals, and what that alone costs.

    au_r_reader: r between true and read intensities, as au_r. error_reader: error_ratio of pictures
    that the renderer itself draws of the target with the intensities that were read, left and right
    alike as F_nor takes them: what is left of F_nor's error is not the reader's. error_alike: the
    same with the true intensities.
    """
    network, mirrored = load_face_network(weights).eval(), faces.original[:, :, ::-1]
    answers = [run_batches(network, pixels) for pixels in (faces.original, mirrored)]
    # As F_nor does, the mean of what the picture and its mirror image show.
    read = np.mean([np.concatenate([one["intensity"] for one in a]) for a in answers], axis=0)
    target = target_parameters(people, key)
    shown = people.read_pixels(people.row_of(key))

    def error(intensities: np.ndarray) -> float:
        actions = [dict(zip(UNITS, map(float, row), strict=True)) for row in intensities]
        drawn = [dataclasses.replace(target, intensity=one, asymmetry={}) for one in actions]
        pixels = render_batch(drawn, originals.side)
        return round(measure_error(faces._replace(normalized=pixels), shown), 4)

    return {
        "au_r_reader": round(
            float(intensity_correlation(faces.intensity, read)[REPORTED].mean()), 4
        ),
        "error_reader": error(np.clip(5 * read, 0, 5)),
        "error_alike": error(faces.intensity),
    }


if __name__ == "__main__":
    sys.exit(main())
