"""Learning rate over the steps of a run."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from norface.config import Config

Beta = Annotated[float, Field(ge=0, lt=1)]
"Decay of one of Adam's running moments."


class ScheduleConfig(Config):
    """How the rate moves between the first and the last step."""

    kind: Literal["constant", "cosine"] = "constant"
    "constant, or half a cosine from the whole rate down to `final`."
    warmup_steps: int = Field(0, ge=0)
    "Steps in which the rate climbs in a line from 0."
    final: float = Field(0.0, ge=0, le=1)
    "Where the cosine ends, in units of the rate."

    def factor(self, step: int, total_steps: int) -> float:
        """What the rate is multiplied by at step `step`, counted from 0; 0..1."""
        climb = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.kind == "constant":
            return climb
        rest = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        fall = 0.5 * (1 + math.cos(math.pi * min(max(rest, 0.0), 1.0)))
        return climb * (self.final + (1 - self.final) * fall)
