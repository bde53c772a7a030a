"""The steps of `norface quickstart`, one after the other, each skipped where it is done already.

ROOT/shards/normalizer, .../target            rendered persons of F_nor; a clip of the target
ROOT/shards/folds                             rendered persons of the three folds
ROOT/normalized/TARGET/GENERATOR, .../truth   the folds' faces as the target; and the true ones
ROOT/nor, ROOT/crossval                       the runs; ROOT/mlflow.db has both
ROOT/summary.json, ROOT/report.html           what came out
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from norface.config import load_config, save_config
from norface.critics.base import CriticsConfig
from norface.critics.features import KINDS, write_features
from norface.data.shards import ShardIndex
from norface.errors import CheckpointError
from norface.evaluation.crossval_config import CrossvalConfig
from norface.evaluation.protocols import cross_validate
from norface.images import write_png
from norface.normalize import normalize_shards
from norface.quickstart.measure import (
    choose_person,
    draw_faces,
    measure_normalization,
)
from norface.quickstart.memory import MemoryWatch
from norface.quickstart.settings import CLASSIFIER, NORMALIZER, SIDE, QuickstartConfig
from norface.report import build_report
from norface.synthetic.corpus import write_corpus, write_truth
from norface.targets import choose_in_clip
from norface.tracking import CONFIG_FILE, replacing, writing
from norface.training.run import run_stage
from norface.training.stages.nor import NorStage
from norface.training.stages.nor_config import NorConfig

POOLS = ("normalizer", "target", "folds")
"Folders of shards; the person of `target` comes after those of `normalizer` in its pool."
SUMMARY_FILE, COSTS_FILE = "summary.json", "costs.json"
FACES_FILE, FEATURES_FILE = "faces.png", "critic_features.npz"
F1_OF = {
    "f1_without": "without",
    "f1_norface": "norface",
    "f1_truth": "truth",
    "f1_critic_features": "critic_features",
}
"Figure of the summary => setting of the cross-validation."


class Quickstart:
    """One run of all steps below `config.root`."""

    def __init__(self, config: QuickstartConfig):
        self.config, self.root = config, config.root
        self.costs: dict[str, Any] = {}
        self.shards = {pool: self.root / "shards" / pool for pool in POOLS}

    def run(self) -> dict[str, Any]:
        """Do all that is not done; returns the contents of summary.json. Raises NorfaceError."""
        self.claim()
        with self.step(1, "faces: two groups of people who never meet"):
            self.render()
        with self.step(2, "F_nor: learns to draw any expression on another face"):
            generator = self.train_normalizer()
        with self.step(3, "normalize: the folds' faces become the target"):
            normalized, truth = self.normalize(generator)
        with self.step(4, "measure: by judges that no loss used"):
            figures = self.measure(normalized, truth)
        with self.step(5, "F_cla: three folds, with and without normalization"):
            figures |= self.cross_validate(normalized, truth)
        summary = {
            "wall_s": round(sum(cost["seconds"] for cost in self.costs.values()), 1),
            "peak_rss_gib": max(cost["peak_rss_gib"] for cost in self.costs.values()),
            "subjects": self.config.subjects,
            "image_size": SIDE,
            **figures,
        }
        write_json(self.root / SUMMARY_FILE, summary)
        caption = "Original, normalized, true normalized face, of people that F_nor never met"
        build_report(
            self.root, title="Norface quickstart", pictures={caption: self.root / FACES_FILE}
        )
        return summary

    def claim(self) -> None:
        """Note the config in ROOT, or find the same one. Raises CheckpointError for another."""
        path = self.root / CONFIG_FILE
        with writing(path):
            if path.exists():
                before = load_config(QuickstartConfig, path)
                changed = [
                    name
                    for name in QuickstartConfig.model_fields
                    if name not in ("root", "workers", "tracking")
                    and getattr(before, name) != getattr(self.config, name)
                ]
                costs = self.root / COSTS_FILE
                if costs.is_file():
                    self.costs = json.loads(costs.read_text(encoding="utf-8"))
                if changed:
                    raise CheckpointError(
                        f"{self.root}: belongs to a quickstart with {changed[0]}="
                        f"{getattr(before, changed[0])}; remove it or choose another root=FOLDER"
                    )
            self.root.mkdir(parents=True, exist_ok=True)
            save_config(self.config, path)

    @contextlib.contextmanager
    def step(self, number: int, title: str) -> Iterator[None]:
        """Say what begins and how long it took; what it cost is kept for a start that goes on."""
        print(f"[{number}/5] {title}", flush=True)
        started, name = time.monotonic(), str(number)
        before = self.costs.get(name, {"seconds": 0.0, "done": False})
        done = False
        try:
            with MemoryWatch() as memory:
                yield
            done = True
        finally:
            seconds = time.monotonic() - started
            if not before["done"]:
                self.costs[name] = {
                    "seconds": round(before["seconds"] + seconds, 1),
                    "peak_rss_gib": max(before.get("peak_rss_gib", 0), round(memory.peak_gib, 2)),
                    "done": done,
                }
                write_json(self.root / COSTS_FILE, self.costs)
        print(f"      {seconds:.0f} s", flush=True)

    def render(self) -> None:
        """Write the three corpora."""
        config = self.config
        people, clip = config.normalizer_subjects, config.target_frames
        common = {"side": SIDE, "seed": config.seed, "workers": config.workers}
        write_corpus(
            self.shards["normalizer"], pool="normalizer",
            subjects=people, frames=config.normalizer_frames, **common,
        )  # fmt: skip
        target = choose_person(people, config.targets, seed=config.seed, clip_frames=clip)
        write_corpus(
            self.shards["target"], pool="normalizer", first_subject=target,
            subjects=1, frames=clip, clip_frames=clip, **common,
        )  # fmt: skip
        write_corpus(
            self.shards["folds"], pool="folds",
            subjects=config.subjects, frames=config.frames, **common,
        )  # fmt: skip

    def target_key(self) -> str:
        """Key of the target face."""
        return choose_in_clip(ShardIndex.open(self.shards["target"]))

    def train_normalizer(self) -> Path:
        """Train F_nor; returns its generator."""
        values = {
            **NORMALIZER,
            "name": "nor",
            "root": self.root,
            "seed": self.config.seed,
            "data": {"shards": [self.shards["normalizer"], self.shards["target"]]},
            "target_pool": {"keys": [self.target_key()]},
            "trainer": {**NORMALIZER["trainer"], "images": self.config.normalizer_images},
            "samples": {"originals": self.shards["folds"], "truth": self.write_truth()},
            "tracking": self.config.tracking,
        }
        folder = run_stage(NorStage, NorConfig.model_validate(values))
        return folder / "generator.safetensors"

    def write_truth(self) -> Path:
        """The folds' faces rendered as the target: the true normalized faces."""
        return write_truth(
            self.shards["folds"],
            self.target_key(),
            self.root / "normalized",
            target_shards=self.shards["target"],
            workers=self.config.workers,
        )

    def normalize(self, generator: Path) -> tuple[Path, Path]:
        """The folds' faces by the generator, and the true ones: two sets."""
        normalized = normalize_shards(
            generator,
            self.shards["folds"],
            self.root / "normalized",
            target_key=self.target_key(),
            target_shards=self.shards["target"],
        )
        return normalized, self.write_truth()

    def measure(self, normalized: Path, truth: Path) -> dict[str, Any]:
        """Figures of the normalization, and faces.png to look at."""
        figures, faces = measure_normalization(
            ShardIndex.open(self.shards["folds"]),
            ShardIndex.open(normalized),
            ShardIndex.open(truth),
            ShardIndex.open(self.shards["target"]),
            self.target_key(),
            renders=self.config.target_renders,
            seed=self.config.seed,
        )
        with replacing(self.root / FACES_FILE) as aside:
            write_png(aside, draw_faces(faces))
        return figures

    def cross_validate(self, normalized: Path, truth: Path) -> dict[str, Any]:
        """F1 of every setting as {"value", "low", "high"}, in 0..1."""
        cla = {
            **CLASSIFIER,
            "epochs": self.config.epochs,
            "data": {
                "shards": [self.shards["folds"]],
                "cache": True,
                "seed": self.config.seed,
            },
        }
        values = {
            "name": "crossval",
            "root": self.root,
            "cla": cla,
            "settings": {
                "without": None,
                "norface": normalized,
                "truth": truth,
                "critic_features": self.write_features(),
            },
            "seeds": [self.config.seed],
            "processes": self.config.workers,
            "tracking": self.config.tracking,
        }
        result = cross_validate(CrossvalConfig.model_validate(values))
        settings = result["settings"]
        return {name: settings[setting]["mean"] for name, setting in F1_OF.items()}

    def write_features(self) -> Path:
        """What the critics of L_exp and L_eye read from the originals, in the place of pictures."""
        critics = {kind: NORMALIZER["critics"][kind] for kind in KINDS}
        path = self.root / FEATURES_FILE
        write_features([self.shards["folds"]], path, CriticsConfig.model_validate(critics))
        return path


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write values under another name and rename."""

    with replacing(path) as aside:
        aside.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
