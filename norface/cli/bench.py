"""Speed and memory on this machine: of reading, tracking, training, F_nor, F_cla; the renderer.

  loading   decode, flip, to tensor from shards, against torchvision's ImageFolder with the same
            pictures and workers; memory over an epoch
  index     a large index opened in a new process: seconds, memory
  prepare   preparation against the bare face detector, a core
  tracking  many processes that log to one MLflow server: values lost, time blocked
  renderer  synthetic faces seen by MediaPipe's networks, which were trained on people: are they
            found, and does each action unit show; pictures a second
  moe       the MoE block at batches of 256 and 16 against the bare matrix products of the chosen
            experts, memory bandwidth, a plain loop, and st-moe-pytorch where it is installed
  classifier  useful operations of a training step of F_cla as a share of the matmul rate
  normalizer  useful operations of a training step of F_nor with critics of full size as a
            share of the matmul rate in fp32 and bf16; the critics' part of it; memory
  start     seconds from `norface train nor` (small) to its first step
  saving    what checkpoints cost a small training, in percent of its time
  traffic   bytes that a step of the full-size stages sends and holds on 8, 64, 512 GPUs, on paper
  scaling   two ranks of one training against two trainings at the same time, with quickstart's
            network and with the paper's in small

What is compared runs in turns, and a ratio is the median over the rounds: on a machine that does
other work ratios can be trusted, rates cannot.

Example:
  norface bench loading --workers 4
  norface bench loading shards --workers 4
  norface bench index --samples 1000000
  norface bench prepare photos --json
  norface bench tracking --processes 16 --seconds 60
  norface bench renderer --subjects 40 --frames 40
  norface bench moe --rounds 15
  norface bench classifier --batch 8 --side 256
  norface bench normalizer --rounds 2 --json
  norface bench scaling --rounds 5
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Result(Protocol):
    """Numbers that can be printed for a script and for a person."""

    def model_dump(self) -> dict[str, object]: ...
    def describe(self) -> str: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("what", choices=tuple(MEASURES))
    parser.add_argument(
        "source",
        nargs="?",
        type=Path,
        metavar="SHARDS|PHOTOS",
        help="measure with these; else with synthetic faces, or portraits of scikit-image",
    )
    parser.add_argument("--workers", type=int, default=2, help="of loading (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="turns (default: 3)")
    parser.add_argument(
        "--batch",
        type=int,
        help="of loading (default: 64), of classifier and normalizer (default: 8)",
    )
    parser.add_argument(
        "--pictures", type=int, default=2000, help="of loading, preparation 50th (default: 2000)"
    )
    parser.add_argument(
        "--samples",
        type=int,
        help="of the index (default: 1000000) or of the epoch (default: 100000)",
    )
    parser.add_argument("--subjects", type=int, default=40, help="of the renderer (default: 40)")
    parser.add_argument("--frames", type=int, default=40, help="of each subject (default: 40)")
    parser.add_argument("--side", type=int, default=256, help="of pictures (default: 256)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        help="of normalizer, only this one (default: one after the other)",
    )
    parser.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="of the renderer: an ArcFace network (.pt, .onnx) that tells people apart",
    )
    parser.add_argument("--processes", type=int, default=16, help="of tracking (default: 16)")
    parser.add_argument("--seconds", type=int, default=60, help="of tracking (default: 60)")
    parser.add_argument(
        "--steps", type=int, default=30, help="of saving, scaling: in a window (default: 30)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as json")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from norface.errors import ConfigError

    counts = (
        "workers", "rounds", "batch", "pictures", "samples", "side", "subjects", "frames",
        "processes", "seconds", "steps",
    )  # fmt: skip
    for name in counts:
        value, least = getattr(args, name), 0 if name == "workers" else 1
        if value is not None and value < least:
            raise ConfigError(f"--{name} {value}: at least {least} is needed")
    with tempfile.TemporaryDirectory(prefix="norface-bench-") as place:
        results = MEASURES[args.what](args, Path(place))
    if args.json:
        print(json.dumps({name: one.model_dump() for name, one in results.items()}, indent=2))
    else:
        print("\n".join(one.describe() for one in results.values()))
    return 0


def run_loading(args: argparse.Namespace, place: Path) -> dict[str, Result]:
    """Rates of loading and memory over an epoch."""
    from norface.bench.epoch import bench_epoch
    from norface.bench.loading import bench_loading, write_faces

    shards, batch = args.source, args.batch or 64
    if shards is None:
        shards = place / "shards"
        write_faces(shards, pictures=args.pictures, side=args.side)
    rates = bench_loading(
        shards, place / "files", workers=args.workers, rounds=args.rounds, batch=batch
    )
    samples = args.samples or 100_000
    epoch = bench_epoch(shards, place / "epoch", samples=samples, batch=batch)
    return {"loading": rates, "epoch": epoch}


def run_index(args: argparse.Namespace, place: Path) -> dict[str, Result]:
    """Opening an index."""
    from norface.bench.index import bench_index

    samples = args.samples or 1_000_000
    return {"index": bench_index(place / "index", samples=samples, rounds=args.rounds)}


def run_prepare(args: argparse.Namespace, place: Path) -> dict[str, Result]:
    """Preparation beside its detector."""
    from norface.bench.preparing import bench_preparation, write_portraits
    from norface.data.detection import choose_detector

    choice, photos, count = choose_detector("auto"), args.source, max(args.pictures // 50, 1)
    if photos is None:
        photos = place / "photos"
        write_portraits(photos, count)
    rates = bench_preparation(photos, choice, photographs=count, rounds=args.rounds)
    return {"prepare": rates}


def run_tracking(args: argparse.Namespace, place: Path) -> dict[str, Result]:
    """Many trainings and one server."""
    from norface.bench.tracking import bench_tracking

    return {"tracking": bench_tracking(place, processes=args.processes, seconds=args.seconds)}


def run_renderer(args: argparse.Namespace, _: Path) -> dict[str, Result]:
    """The renderer before networks that were trained on people."""
    from norface.bench.renderer import bench_renderer

    figures = bench_renderer(
        subjects=args.subjects, frames=args.frames, side=args.side, identity=args.identity
    )
    return {"renderer": figures}


def run_moe(args: argparse.Namespace, _: Path) -> dict[str, Result]:
    """The MoE block at full size."""
    from norface.bench.moe import bench_moe

    return {f"batch {size}": bench_moe(batch=size, rounds=args.rounds) for size in (256, 16)}


def run_classifier(args: argparse.Namespace, _: Path) -> dict[str, Result]:
    """A training step of F_cla with ViT-B/16."""
    from norface.bench.classifier import bench_classifier
    from norface.config import build_config
    from norface.models.classifier import ClassifierConfig

    config = build_config(ClassifierConfig, {"vit": {"side": args.side}})
    rate = bench_classifier(config, batch=args.batch or 8, rounds=args.rounds)
    return {"classifier": rate}


def run_normalizer(args: argparse.Namespace, place: Path) -> dict[str, Result]:
    """A training step of F_nor with ViT-B/16, in both precisions or in one."""
    from norface.bench.normalizer import GOALS, bench_normalizer

    batch, side = args.batch or 8, args.side
    return {
        precision: bench_normalizer(
            place, precision=precision, batch=batch, side=side, rounds=args.rounds
        )
        for precision in GOALS
        if args.precision in (None, precision)
    }


def run_start(args: argparse.Namespace, place: Path) -> dict[str, Result]:
    """A training up to its first step."""
    from norface.bench.starting import bench_start

    return {"start": bench_start(place, rounds=args.rounds)}


def run_saving(args: argparse.Namespace, place: Path) -> dict[str, Result]:
    """Checkpoints beside steps."""
    from norface.bench.saving import bench_saving

    return {"saving": bench_saving(place, steps=args.steps)}


def run_traffic(_args: argparse.Namespace, _place: Path) -> dict[str, Result]:
    """Bytes on paper."""
    from norface.bench.traffic import count_traffic

    return {"traffic": count_traffic()}


def run_scaling(args: argparse.Namespace, place: Path) -> dict[str, Result]:
    """Two ranks beside two trainings, of two networks."""
    from norface.bench.scaling import NETWORKS, bench_scaling

    return {
        f"scaling {network}": bench_scaling(
            place / network, network=network, rounds=args.rounds, steps=args.steps
        )
        for network in NETWORKS
    }


MEASURES: dict[str, Callable[[argparse.Namespace, Path], dict[str, Result]]] = {
    "loading": run_loading,
    "index": run_index,
    "prepare": run_prepare,
    "tracking": run_tracking,
    "renderer": run_renderer,
    "moe": run_moe,
    "classifier": run_classifier,
    "normalizer": run_normalizer,
    "start": run_start,
    "saving": run_saving,
    "scaling": run_scaling,
    "traffic": run_traffic,
}
"What can be measured, by the word of the command line."
