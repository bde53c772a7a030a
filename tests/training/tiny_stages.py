"""The real stages at sizes that train in seconds, for tests of what happens around training."""

from __future__ import annotations

from pathlib import Path

from marked_faces import SIDE, stage_options, write_corpus, write_normalized
from small_nor import NETWORKS, WEIGHTS, write_critic, write_faces

from norface.config import load_config
from norface.training.stage import Stage, StageConfig
from norface.training.stages import load_stage


def write_material(folder: Path) -> Path:
    """Faces, a normalized set and judges for all stages."""
    shards = write_corpus(folder / "shards")
    write_normalized(shards, folder / "normalized")
    write_faces(folder / "faces")
    for kind in ("reader", "identity"):
        write_critic(folder, kind)
    return folder


def make_options(kind: str, material: Path, root: Path) -> list[str]:
    """key=value of a run of some twenty steps of eight pictures, with a checkpoint every third."""
    common = [
        *("name=run", f"root={root}", "backend.device=cpu", "tracking.mlflow=false"),
        *("trainer.log_every_steps=2", "trainer.save_every_steps=3", "trainer.batch_per_rank=8"),
    ]
    if kind == "cla":
        own = [f"data.normalized=[{material / 'normalized'}]", "epochs=4", "mix.mixup=0.4"]
        return [*stage_options(material / "shards", root), *own, *common]
    if kind == "mae":
        own = [
            f"data.shards=[{material / 'shards'}]",
            f"model.encoder={{side: {SIDE}, patch: 4, width: 16, depth: 2, heads: 2}}",
            "model.decoder={width: 8, depth: 1, heads: 2}",
            "optimizer={learning_rate: 0.01, scale_by_batch: false}",
            "held_out=2",
            "trainer.images=192",
        ]
        return [*own, *common]
    judges = dict.fromkeys(("landmarks", "expression", "eyebrow"), "reader")
    judges |= dict.fromkeys(("identity", "perceptual"), "identity")
    own = [
        f"data.shards=[{material / 'faces'}]",
        *(f"critics.{judge}.source=synthetic" for judge in judges),
        *(f"critics.{judge}.weights={material / file}" for judge, file in judges.items()),
        *(f"losses.{term}={weight}" for term, weight in WEIGHTS.items()),
        *(f"{part}={value}" for part, value in NETWORKS.items()),
        "self_pair=0.5",
        "optimizer.learning_rate=0.001",
        "trainer.images=160",
    ]
    return [*own, *common]


def load_tiny(
    kind: str, material: Path, root: Path, *changes: str
) -> tuple[type[Stage], StageConfig]:
    """The stage's class and a config."""
    config_class, stage = load_stage(kind)
    return stage, load_config(config_class, None, [*make_options(kind, material, root), *changes])
