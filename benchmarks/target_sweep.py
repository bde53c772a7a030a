"""Whether the sweep over targets finds the target that full cross-validation would.

    python benchmarks/target_sweep.py runs/target-sweep

Ten persons whom no fold contains lend a face each: most at rest, the last ones with their
strongest expression. One F_nor learns to draw all ten. `python -m tune.search
configs/tune/targets.yaml` chooses, by the validation subjects of one fold or of all; then all
candidates that it did not refuse are cross-validated in full. Printed are both figures of each,
with intervals by persons, who was refused and why, whether the winner lies in the interval of the
best, and the rank correlation. Everything is kept in the folder, and the same command goes on. Exit
code 1 where the winner is worse than that, or a face was refused or taken against its labels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from norface.config import load_config, read_yaml
from norface.data.labels import ACTION_UNITS
from norface.data.shards import ShardIndex
from norface.evaluation.crossval_config import CrossvalConfig
from norface.evaluation.protocols import cross_validate
from norface.evaluation.statistics import make_interval
from norface.paper.pairs import draw_settings, interval
from norface.synthetic.corpus import write_corpus
from norface.targets import choose_in_clip
from norface.training.run import run_stage
from norface.training.stages.nor import NorStage
from norface.training.stages.nor_config import NorConfig

PROJECT = Path(__file__).resolve().parents[1]
FIRST, SIDE = 160, 64
"The candidates come after the persons that F_nor is trained on, in the same pool."


def main() -> int:
    """Render, train, sweep, cross-validate, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--active", type=int, default=4, help="of them with an expression")
    parser.add_argument("--clip", type=int, default=200, help="faces of each candidate's person")
    parser.add_argument("--subjects", type=int, default=36, help="persons of the three folds")
    parser.add_argument("--frames", type=int, default=24, help="pictures of each")
    parser.add_argument("--images", type=int, default=40_000, help="that F_nor is trained on")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--folds", nargs="*", help="of the sweep; none = all")
    args = parser.parse_args()
    folder = args.folder.resolve()
    shards = {
        "people": render(folder / "people", subjects=FIRST, frames=24),
        "folds": render(folder / "folds", pool="folds", subjects=args.subjects, frames=args.frames),
    }
    candidates = render(
        folder / "clips", subjects=args.candidates, first_subject=FIRST, frames=args.clip,
        clip_frames=args.clip,
    )  # fmt: skip
    index = ShardIndex.open(candidates)
    people = [index.select([person]) for person in index.persons]
    at_rest = args.candidates - args.active
    keys = [choose_in_clip(one) for one in people[:at_rest]]
    active = [strongest(one) for one in people[at_rest:]]
    generator = train(folder, [shards["people"], candidates], args.images)
    chosen = search(folder, generator, shards["folds"], candidates, [*keys, *active], args)
    return compare(folder, shards["folds"], chosen, keys, active, args.epochs)


def render(folder: Path, *, pool: str = "normalizer", **sizes: int) -> Path:
    """Shards of synthetic faces, unless they are there."""
    return write_corpus(folder, pool=pool, side=SIDE, workers=os.cpu_count() or 1, **sizes)


def strongest(index: ShardIndex) -> str:
    """The picture with the largest sum of intensities."""
    return index.key_of(int(index.labels("intensity", tuple(ACTION_UNITS)).sum(axis=1).argmax()))


def train(folder: Path, shards: list[Path], images: int) -> Path:
    """The lean F_nor of configs/nor/synthetic-64.yaml, with all candidates' persons as targets."""
    values = read_yaml(PROJECT / "configs" / "nor" / "synthetic-64.yaml")
    people = ShardIndex.open(shards[1])
    values |= {
        "name": "nor",
        "root": folder / "runs",
        "data": {"shards": shards},
        "target_pool": {
            "subjects": ["/".join(person) for person in people.persons],
            "check_target": False,
        },
        "trainer": {**values["trainer"], "images": images},
    }
    return run_stage(NorStage, NorConfig.model_validate(values)) / "generator.safetensors"


def search(
    folder: Path, generator: Path, faces: Path, candidates: Path, keys: list[str],
    args: argparse.Namespace,
) -> Path:  # fmt: skip
    """Run the sweep; its folder."""
    words = [
        f"root={folder / 'runs'}", f"base={PROJECT / 'configs' / 'cla' / 'synthetic-64.yaml'}",
        f"changes={{cla.data.shards: [{faces}], cla.backend.device: cpu}}",
        f"space.target.grid={json.dumps(keys)}", f"budget.epochs={args.epochs}",
        "resources={cpus: 1}", f"normalize.generator={generator}", f"normalize.shards={faces}",
        f"normalize.target_shards={candidates}", f"normalize.out={folder / 'normalized'}",
        f"folds={json.dumps(args.folds)}", "tracking.mlflow=false",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tune.search", str(PROJECT / "configs/tune/targets.yaml")]
    subprocess.run([*command, *words], check=True, env=environment)
    return folder / "runs" / "targets"


def compare(
    folder: Path, faces: Path, sweep: Path, keys: list[str], active: list[str], epochs: int
) -> int:
    """Cross-validate what the sweep tried, and print both side by side."""
    from tune.folder import best_trial, list_trials

    trials = {str(trial.values["target"]): trial for trial in list_trials(sweep)}
    refused = json.loads((sweep / "refused.json").read_text(encoding="utf-8"))
    if set(refused) != set(active) or set(trials) != set(keys):
        print(f"refused are {', '.join(refused)}, and those with an expression {', '.join(active)}")
        return 1
    winner = best_trial(list(trials.values()), "max")
    assert winner is not None, "no trial has a figure"
    won = str(winner.values["target"])
    (generator,) = {path.name for path in (folder / "normalized").glob("*/*") if path.is_dir()}
    words = [f"root={folder / 'runs'}", f"cla.data.shards=[{faces}]", f"cla.epochs={epochs}"]
    words += [f"processes={os.cpu_count() or 1}", "tracking.mlflow=false"]
    sets = {key: str(folder / "normalized" / key / generator) for key in keys}
    words += [f"settings={json.dumps(sets)}"]
    config = load_config(CrossvalConfig, PROJECT / "configs/cla/synthetic-64.yaml", words)
    cross_validate(config)
    drawn = draw_settings(config, keys)
    full = {key: interval(one) for key, one in drawn.items()}
    print(f"\n{'target':44s} sweep (validation)  full cross-validation")
    for key in sorted(keys, key=lambda one: -full[one].value):
        print(f"{key:44s} {trials[key].value:18.3f}  {full[key]}" + "  <- winner" * (key == won))
    for key, why in refused.items():
        print(f"refused: {key}: {why}")
    best = max(full.values(), key=lambda one: one.value)
    value = full[won].value
    values = np.array([trials[key].value for key in keys], float)
    ranks = lambda one: np.argsort(np.argsort(one))
    correlate = lambda others: float(np.corrcoef(ranks(values), ranks(others))[0, 1])
    means = np.stack([drawn[key].means(None)[1] for key in keys], axis=1)
    rank = make_interval(
        correlate([full[key].value for key in keys]), np.array([correlate(one) for one in means])
    )
    within = value >= best.low
    print(
        f"the winner's F1 {value:.3f} is {'within' if within else 'OUTSIDE'} the interval of"
        f" the best, {best}; rank correlation {rank.value:.2f} [{rank.low:.2f}, {rank.high:.2f}]"
    )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
