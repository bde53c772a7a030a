"""The synthetic corpus that stands in for a lab's own: shards, true normalized faces, features."""

from __future__ import annotations

from pathlib import Path

from norface.critics.base import CriticsConfig
from norface.critics.features import KINDS, write_features
from norface.data.shards import ShardIndex
from norface.paper.config import PaperConfig
from norface.synthetic.corpus import write_corpus, write_truth
from norface.targets import choose_in_clip

TARGETS = "targets"
"Folder of the true normalized faces' target."
CLIP = 120
"Faces of the target's clip."
ABLATIONS: dict[str, tuple[str, ...]] = {
    "norface": (),
    "without_eye": ("eye",),
    "without_exp": ("exp",),
}
"Set of a small F_nor => the losses that it was trained without."


def write_stand_in(config: PaperConfig) -> tuple[Path, Path, Path]:
    """Render what is not there yet. Returns shards, the set of true normalized faces, features."""
    size, folder = config.stand_in, config.root / config.name / "data"
    shards = write_corpus(
        folder / "folds", pool="folds", subjects=size.subjects, frames=size.frames, side=size.side,
        workers=size.workers,
    )  # fmt: skip
    # The first face at rest of a person of another pool: the target is nobody who is tested.
    people = write_people(config, TARGETS, 1)
    truth = write_truth(
        shards, ShardIndex.open(people).key_of(0), folder / "normalized", target_shards=people,
        workers=size.workers,
    )  # fmt: skip
    features = folder / "features.npz"
    if not features.is_file():
        packaged = dict.fromkeys(KINDS, {"source": "synthetic"})
        write_features([shards], features, CriticsConfig.model_validate(packaged))
    return shards, truth, features


def write_people(config: PaperConfig, name: str, count: int) -> Path:
    """Shards of `count` persons who are in no fold, 4 faces each, the first at rest."""
    folder = config.root / config.name / "data" / name
    return write_corpus(
        folder, pool="normalizer", subjects=count, frames=4, side=config.stand_in.side,
        clip_frames=4,
    )  # fmt: skip


def write_candidates(config: PaperConfig, shards: Path) -> dict[str, Path]:
    """ID1, ID2, ... => the true normalized faces on as many targets (Figures 4 and 9)."""
    size = config.stand_in
    people = write_people(config, f"candidates-{size.targets}", size.targets)
    index = ShardIndex.open(people)
    return {
        f"ID{number + 1}": write_truth(
            shards, index.key_of(4 * number), config.root / config.name / "data" / "normalized",
            target_shards=people, workers=size.workers,
        )
        for number in range(size.targets)
    }  # fmt: skip


def normalize_by_small(config: PaperConfig, shards: Path, name: str) -> dict[str, Path]:
    """Set of a small F_nor for each of ABLATIONS, in the folder `name` of the data."""
    from norface.config import build_config, read_yaml
    from norface.normalize import normalize_shards
    from norface.training.run import run_stage
    from norface.training.stages.nor import NorStage
    from norface.training.stages.nor_config import NorConfig

    size, folder = config.stand_in, config.root / config.name / "data"
    faces = write_corpus(
        folder / "normalizer", pool="normalizer", subjects=size.normalizer_subjects, frames=12,
        first_subject=1, side=size.side, workers=size.workers,
    )  # fmt: skip
    # One long clip of the target: L_rec asks for its other faces (clip_pair).
    clip = write_corpus(
        folder / "target-clip", pool="normalizer", subjects=1, frames=CLIP, side=size.side,
        clip_frames=CLIP, workers=size.workers,
    )  # fmt: skip
    target = choose_in_clip(ShardIndex.open(clip))
    path = config.configs / "nor" / size.normalizer
    base = read_yaml(path)
    # One picture of the target, or where the config learns a whole person all of that person's.
    chosen = {"keys": [target]}
    if "subjects" in base.get("target_pool", {}):
        corpus, subject = ShardIndex.open(clip).persons[0]
        chosen = {**base["target_pool"], "subjects": [f"{corpus}/{subject}"]}
    sets = {}
    for setting, absent in ABLATIONS.items():
        values = {
            **base,
            "name": f"{config.name}/nor/{setting}",
            "root": config.root,
            "data": {"shards": [faces, clip]},
            "target_pool": chosen,
            "trainer": {**base["trainer"], "images": size.normalizer_images},
            "losses": {**base["losses"], **dict.fromkeys(absent)},
            "tracking": config.tracking,
        }
        run = run_stage(NorStage, build_config(NorConfig, values, source=path))
        generator = run / "generator.safetensors"
        sets[setting] = normalize_shards(
            generator, shards, folder / name, target_key=target, target_shards=clip
        )
    return sets
