"""The winner as a config: the base's differences and the trial's values, ready to be retrained."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from norface.evaluation.crossval_config import CrossvalConfig
from norface.tracking import replacing
from tune.base import Base
from tune.config import TARGET
from tune.folder import BEST_FILE, Trial


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
    return path, f"norface {verb} -c {path}"
