"""The stages that `norface train` knows. Imported lazily: reading this table costs nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from norface.errors import ConfigError

if TYPE_CHECKING:
    from norface.training.stage import Stage, StageConfig

STAGES = {
    "mae": ("norface.training.stages.mae", "MaeConfig", "MaeStage"),
    "nor": ("norface.training.stages.nor", "NorConfig", "NorStage"),
    "cla": ("norface.training.stages.cla", "ClaConfig", "ClaStage"),
    "critic": ("norface.training.stages.critic", "CriticConfig", "CriticStage"),
}
"Name => (module, class of its config, class of the stage)."


def load_stage(name: str) -> tuple[type[StageConfig], type[Stage]]:
    """Config and stage class of a name. Raises ConfigError listing the names there are."""
    if name not in STAGES:
        raise ConfigError(f"unknown stage '{name}'; there are: {', '.join(STAGES)}")
    module_name, config_name, stage_name = STAGES[name]
    module = importlib.import_module(module_name)
    return getattr(module, config_name), getattr(module, stage_name)
