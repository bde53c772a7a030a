"""What a sweep may change: config keys, each with the values that it can take.

    space:
      cla.losses.importance: {loguniform: [1.0e-5, 0.1]}
      cla.model.moe.experts: {choice: [2, 4, 8]}
      cla.model.moe.top_k: {int: [1, 4]}
      cla.augment.flip: {uniform: [0, 1]}
      cla.model.moe.router: {grid: [noisy, printed]}

`grid` values are gone through in order, the others are drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from norface.config import Config

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

KINDS = ("loguniform", "uniform", "int", "logint", "choice", "grid")
Kind = Literal["loguniform", "uniform", "int", "logint", "choice", "grid"]


class Parameter(Config):
    """The values of one key, written {KIND: [...]}; a bare list is a choice."""

    kind: Kind
    "How values are drawn: from low to high, or one of several; grid = each in turn."
    values: list[Any]
    "Low and high of a range, else the values themselves."

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, given: Any) -> Any:
        if isinstance(given, list):
            return {"kind": "choice", "values": given}
        if isinstance(given, Mapping) and len(given) == 1 and next(iter(given)) in KINDS:
            kind, values = next(iter(given.items()))
            return {"kind": kind, "values": values}
        if isinstance(given, Parameter) or (isinstance(given, Mapping) and "kind" in given):
            return given
        raise ValueError(f"expected one of {', '.join(KINDS)}, for example {{choice: [1, 2]}}")

    @model_validator(mode="after")
    def _check_values(self) -> Parameter:
        values = self.values
        if self.kind in ("choice", "grid"):
            if not values:
                raise ValueError(f"{self.kind} needs at least one value")
            return self
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if len(values) != 2 or not numbers or values[0] >= values[1]:
            raise ValueError(f"{self.kind} needs [low, high], two numbers (1.0e-3, not 1e-3)")
        if self.kind in ("int", "logint") and not all(isinstance(v, int) for v in values):
            raise ValueError(f"{self.kind} needs whole numbers")
        if self.kind in ("loguniform", "logint") and values[0] <= 0:
            raise ValueError(f"{self.kind} needs a low end above 0")
        return self

    @property
    def is_log(self) -> bool:
        """Whether the range is drawn, and drawn in figures, on a log scale."""
        return self.kind in ("loguniform", "logint")

    def distribution(self) -> BaseDistribution:
        """Optuna's name for it."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.kind in ("choice", "grid"):
            # Optuna takes plain values only; lists and mappings go by their place.
            return CategoricalDistribution(list(range(len(self.values))))
        low, high = self.values
        if self.kind in ("int", "logint"):
            return IntDistribution(low, high, log=self.is_log)
        return FloatDistribution(low, high, log=self.is_log)

    def to_value(self, drawn: Any) -> Any:
        """What Optuna drew => the config's value."""
        return self.values[drawn] if self.kind in ("choice", "grid") else drawn

    def to_drawn(self, value: Any) -> Any:
        """The reverse of `to_value`."""
        return self.values.index(value) if self.kind in ("choice", "grid") else value

    def __str__(self) -> str:
        if self.kind in ("choice", "grid"):
            return f"{self.kind} of {', '.join(map(str, self.values))}"
        return f"{self.kind} {self.values[0]:g} to {self.values[1]:g}"


def read_space(given: Any) -> Any:
    """Nested mappings and dotted keys => {dotted key: what its parameter is read from}."""
    found: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        is_leaf = not isinstance(value, Mapping) or not value
        is_leaf = is_leaf or "kind" in value or bool(set(value) & set(KINDS))
        if is_leaf:
            found[path] = value
            return
        for key, inner in value.items():
            walk(inner, f"{path}.{key}" if path else str(key))

    if not isinstance(given, Mapping):
        return given
    walk(given, "")
    return found


def grid_cells(space: Mapping[str, Parameter]) -> list[dict[str, Any]]:
    """Every combination of the grid keys' values; [{}] without any. The last key turns fastest."""
    keys = [key for key, parameter in space.items() if parameter.kind == "grid"]
    return [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(*(space[key].values for key in keys))
    ]


def drawn_keys(space: Mapping[str, Parameter]) -> list[str]:
    """The keys that are drawn, not gone through."""
    return [key for key, parameter in space.items() if parameter.kind != "grid"]
