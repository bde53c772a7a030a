"""Typed configuration: defaults <- yaml <- `key=value`, strict, with one-line errors.

Every part of the toolkit declares its settings as a subclass of `Config` beside the object that
they build; each field is followed by its sentence. A run's yaml holds only the differences from the
defaults, and `save_config` writes the resolved whole beside the run. `like: OTHER.yaml` in a yaml
takes over what another one says, by a path from its own folder; what stands beside it wins.

    class OptimizerConfig(Config):
        learning_rate: float = 1e-4
        "Absolute rate of Adam; never scaled by the batch."

    config = load_config(OptimizerConfig, "run.yaml", ["learning_rate=2e-4"])
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from norface.errors import ConfigError, hide_password

try:  # libyaml's parser, ten times as fast: a table of `norface paper` reads some hundred files.
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # a PyYAML built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]


class Config(BaseModel):
    """Base of all settings: unknown keys are refused, values are checked, objects are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
    )


class Misfit(ValueError):
    """What a check of several keys raises where they do not go together.

    A key of its text that begins with a dot is one below the place of the check, and is shown by
    its whole name: `'.heads'` of an encoder becomes `'normalizer.encoder.heads'`.
    """


C = TypeVar("C", bound=Config)

TAG = "kind"
"Key by which configs that may stand in one place are told apart."
LIKE = "like"
"Key of a yaml that names another one, whose values it takes over."


def load_config(
    schema: type[C], path: str | Path | None = None, overrides: Sequence[str] = ()
) -> C:
    """Defaults of `schema`, then the yaml at `path`, then `key.sub=value` strings, validated.

    Raises ConfigError naming the file or the override, the key, what was found and what is valid.
    """
    changes = []
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign or not key:
            raise ConfigError(f"'{override}': expected key=value, for example seed=1")
        changes.append((key, parse_value(override, text)))
    return lay_over(schema, path, changes, source="command line")


def lay_over(
    schema: type[C],
    path: str | Path | None,
    changes: Iterable[tuple[str, Any]],
    *,
    source: str = "",
    under: str = "",
) -> C:
    """Defaults of `schema`, then the yaml at `path`, then (key.sub, value), validated.

    The changes are written in `source` below the key `under`. Raises ConfigError naming that or the
    yaml, the key, what was found and what is valid.
    """
    values: dict[str, Any] = read_yaml(path) if path is not None else {}
    given: list[list[str]] = []
    for key, value in changes:
        given.append(key.split("."))
        set_key(values, given[-1], value)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        if path is not None and not _is_of(given, error, schema, read_yaml(path)):
            source, under = str(path), ""
        where = f"{source}: " if source else ""
        raise ConfigError(f"{where}{describe(error, schema, under)}") from None


def _is_of(
    given: list[list[str]], error: ValidationError, schema: type[Config], file: dict[str, Any]
) -> bool:
    """Whether the first problem comes from the keys that were `given` beside a file: it lies in one
    of them, or the file alone does not have it."""
    first = error.errors()[0]
    place, _ = _find_place(schema, first)
    if any(place[: len(key)] == key for key in given):
        return True
    try:
        schema.model_validate(file)
    except ValidationError as alone:
        found = [(one["type"], one["loc"]) for one in alone.errors()]
        return bool(given) and (first["type"], first["loc"]) not in found
    return bool(given)


def _refuse_twice(path: str | Path, text: str) -> None:
    """Raise ConfigError for a key that comes twice in one mapping; yaml would take the last."""
    nodes = [yaml.compose(text, Loader=SafeLoader)]
    for node in nodes:
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                # An anchor's mapping is one node in several places, and needs no second look.
                nodes += [] if any(value is one for one in nodes) else [value]
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    line = key.start_mark.line + 1
                    raise ConfigError(f"{path}: line {line}: the key '{key.value}' comes twice")
                seen.add(str(key.value))


def read_yaml(path: str | Path, through: Sequence[Path] = ()) -> dict[str, Any]:
    """The mapping in a yaml file (an empty file is an empty mapping), with what it is `like`.

    `through`: the files that led here. Raises ConfigError.
    """
    values = _read_mapping(path)
    if LIKE not in values:
        return values
    other, through = values.pop(LIKE), (*through, Path(path).resolve())
    if not isinstance(other, str):
        raise ConfigError(f"{path}: '{LIKE}': found {other!r}; the path of another yaml is meant")
    base = Path(path).parent / other
    if base.resolve() in through:
        raise ConfigError(f"{path}: '{LIKE}': {other} is in turn like this file; break the circle")
    return merge(read_yaml(base, through), values)


def _read_mapping(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        _refuse_twice(path, text)
        values = yaml.load(text, Loader=SafeLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: not valid yaml{where}; check indentation and colons") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found a {type(values).__name__}")
    return values


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with `changes` over them: mappings are merged, all else is replaced."""
    merged = dict(values)
    for key, value in changes.items():
        inner = merged.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = merge(inner, value)
        merged[key] = value
    return merged


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved config as yaml, whole or not at all. Raises OSError."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.tmp")
    try:
        aside.write_text(
            yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
        )
        os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def config_hash(config: Config) -> str:
    """First 12 hex digits of the sha256 of the resolved config."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parse_value(override: str, text: str) -> Any:
    """The value of `key=value`, read as yaml: 3, 1e-4, true, null, [a, b], {12: 0.5}, text."""
    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        raise ConfigError(f"'{override}': the value is not valid yaml; quote it") from None


def set_key(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a nested key, making the mappings on the way."""
    for part in path[:-1]:
        inner = values.get(part)
        if not isinstance(inner, dict):
            inner = values[part] = {}
        values = inner
    values[path[-1]] = value


def build_config(
    schema: type[C], values: Mapping[str, Any], *, source: str | Path = "", under: str = ""
) -> C:
    """`values`, which are written in `source` below the key `under`, validated.

    Raises ConfigError naming the source, the key, what was found and what is valid.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        where = f"{source}: " if source else ""
        raise ConfigError(f"{where}{describe(error, schema, under)}") from None


def describe(error: ValidationError, schema: type[Config], under: str = "") -> str:
    """The first problem of a validation in one line, with the valid choices.

    `under`: the key below which the user wrote these values.
    """
    first = error.errors()[0]
    place, owner = _find_place(schema, first)
    path = ".".join([under, *place] if under else place)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    problem = first.get("ctx", {}).get("error")
    if isinstance(problem, Misfit):
        return str(problem).replace("'.", f"'{path}." if path else "'") + more
    path = path or "(top level)"
    if first["type"] == "extra_forbidden":
        names = list(owner.model_fields) if owner else []
        near = difflib.get_close_matches(str(first["loc"][-1]), names, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        return f"unknown key '{path}'; {hint}valid keys: {', '.join(names)}{more}"
    if first["type"] in ("missing", "union_tag_not_found"):
        return f"'{path}' must be set{more}"
    found, message = first["input"], first["msg"].removeprefix("Value error, ")
    if first["type"] == "union_tag_invalid":
        found, message = found[TAG], f"expected one of {first['ctx']['expected_tags']}"
    message = message[0].lower() + message[1:]
    return f"'{path}': found {hide_password(repr(found))}; {message}{more}"


def _find_place(
    schema: type[Config], problem: Mapping[str, Any]
) -> tuple[list[str], type[Config] | None]:
    """The key of a problem as a user wrote it, and the Config class that is there, or, for an
    unknown key, that does not have it."""
    path = problem["loc"]
    if problem["type"] == "extra_forbidden":
        place, owner = _follow(schema, path[:-1])
        return [*place, str(path[-1])], owner
    place, owner = _follow(schema, path)
    return [*place, TAG] if problem["type"].startswith("union_tag_") else place, owner


def _follow(
    schema: type[Config], path: Sequence[str | int]
) -> tuple[list[str], type[Config] | None]:
    """The parts of pydantic's path without the tags by which it tells the members of a union, and
    the Config class that it leads to."""
    kept: list[str] = []
    choices: list[Any] = [schema]
    for part in path:
        if len(choices) > 1:
            choices = [one for one in choices if _is_tag(one, str(part))]
            continue
        fields = choices[0].model_fields if choices and _is_config(choices[0]) else {}
        if part in fields:
            choices = _list_choices(fields[str(part)].annotation)
        elif choices and typing.get_origin(choices[0]) in (list, tuple, dict) and part != "[key]":
            choices = _list_choices(typing.get_args(choices[0])[-1])
        else:
            continue
        kept.append(str(part))
    return kept, next((one for one in choices if _is_config(one)), None)


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Config)


def _is_tag(kind: Any, tag: str) -> bool:
    """Whether pydantic means this member of a union: by its field `kind: Literal[...]`, or by its
    type, `list[path]`. Nothing lies below the others."""
    if _is_config(kind):
        field = kind.model_fields.get(TAG)
        return field is not None and tag in typing.get_args(field.annotation)
    origin = typing.get_origin(kind)
    return origin in (list, tuple, dict) and tag.startswith(f"{origin.__name__}[")


def _list_choices(annotation: Any) -> list[Any]:
    """The types of which a value has one, null aside: A and B of `A | B | None`."""
    inside = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        return _list_choices(inside[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [kind for one in inside if one is not type(None) for kind in _list_choices(one)]
    return [annotation]


def list_schemas(annotation: Any) -> list[type[Config]]:
    """The Config classes inside a type such as `Inner | None` or `list[Inner]`, in their order."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    inner = typing.get_args(annotation)
    return [schema for one in inner for schema in list_schemas(one)]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} => {"a.b": 1}; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
