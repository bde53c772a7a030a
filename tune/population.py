"""Population-based training: how Ray changes the values of a trial that takes over another."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from tune.space import Parameter


def mutations(space: Mapping[str, Parameter], seed: int) -> dict[str, Any]:
    """Key => the list of its values, or a draw from its range, as Ray wants them."""
    rng = random.Random(seed)
    return {key: _mutation(parameter, rng) for key, parameter in space.items()}


def _mutation(parameter: Parameter, rng: random.Random) -> list[Any] | Callable[[], Any]:
    if parameter.kind in ("choice", "grid"):
        return parameter.values
    low, high = parameter.values
    if parameter.kind == "int":
        return lambda: rng.randint(low, high)
    if parameter.is_log:
        draw = lambda: low * (high / low) ** rng.random()
        return (lambda: round(draw())) if parameter.kind == "logint" else draw
    return lambda: rng.uniform(low, high)


def explore(config: dict[str, Any], space: Mapping[str, Parameter]) -> dict[str, Any]:
    """Ray multiplies by 1.2 or 0.8: back into the range, and whole where it must be."""
    values = dict(config["values"])
    for key, parameter in space.items():
        if parameter.kind not in ("choice", "grid"):
            low, high = parameter.values
            moved = min(max(values[key], low), high)
            values[key] = round(moved) if parameter.kind in ("int", "logint") else moved
    return {**config, "values": values}
