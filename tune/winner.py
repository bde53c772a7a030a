"""The winner as a config: the base's differences and the trial's values, ready to be retrained.

    python -m tune.winner runs/targets

normalizes the faces with the winner's target for folds that the sweep did not train, where every
fold has a generator of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

from norface.cli.arguments import Parser
from norface.config import load_config, read_yaml
from norface.errors import ConfigError, NorfaceError
from norface.evaluation.crossval_config import CrossvalConfig
from norface.tracking import CONFIG_FILE, replacing
from tune.base import Base
from tune.config import TARGET, SweepConfig
from tune.folder import BASE_FILE, BEST_FILE, Trial, best_trial, list_trials


def write_best(base: Base, trial: Trial) -> tuple[Path, str]:
    """SWEEP/best.yaml with nothing but differences from the defaults, and the command for it.

    The sweep's budget is not in it: the winner is trained as long as the base says, on all folds.
    """
    sweep = base.sweep
    values = base.with_values(trial.values)
    values["name"] = f"{sweep.name}-best"
    if sweep.normalize is not None:
        from tune.candidates import set_path

        found = str(set_path(sweep.normalize, str(trial.values[TARGET])))
        name = base.setting_name()
        settings = values.setdefault("settings", {})
        setting = settings.get(name)
        settings[name] = {**(setting if isinstance(setting, dict) else {}), "normalized": [found]}
    base.schema.model_validate(values)
    text = yaml.safe_dump(json.loads(json.dumps(values, default=str)), sort_keys=False)
    head = (
        f"# Trial {trial.name} of the sweep {sweep.name}: {base.metric} {trial.value:.4g} on"
        " validation subjects.\n"
    )
    path = sweep.folder / BEST_FILE
    with replacing(path) as aside:
        aside.write_text(head + text, encoding="utf-8")
    verb = "crossval" if base.schema is CrossvalConfig else "train nor"
    command = f"norface {verb} -c {path}"
    is_per_fold = sweep.normalize is not None and "{fold}" in str(sweep.normalize.generator)
    if is_per_fold and set(base.folds()) != set(base.all_folds()):
        command = f"python -m tune.winner {sweep.folder} && {command}"
    return path, command


def normalize_for_all(folder: Path) -> None:
    """The sets of a sweep's winner for every fold; those that are there are kept."""
    from tune.candidates import normalize_with

    sweep = load_config(SweepConfig, folder / CONFIG_FILE)
    base = Base(sweep, read_yaml(folder / BASE_FILE))
    best = best_trial(list_trials(folder), sweep.objective.mode)
    if best is None or sweep.normalize is None:
        raise ConfigError(f"{folder}: has no winner among targets, so nothing is normalized")
    for fold in base.all_folds():
        print(normalize_with(sweep.normalize, str(best.values[TARGET]), fold), flush=True)


def main() -> int:
    """Parse the command line; prints the sets."""
    parser = Parser("python -m tune.winner", __doc__)
    parser.add_argument("sweep", type=Path, help="folder of a sweep over targets")
    try:
        normalize_for_all(parser.parse_args().sweep)
    except NorfaceError as error:
        print(f"tune.winner: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
