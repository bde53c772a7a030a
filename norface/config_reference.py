"""Every key of every config as one page, from the sentences that stand below the fields.

text = build_reference()      # Markdown; docs/hooks.py makes docs/config.md of it
"""

from __future__ import annotations

import importlib
import re
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from norface.config import Config, list_schemas

COMMANDS = {
    "norface train mae": ("norface.training.stages.mae_config", "MaeConfig"),
    "norface train critic": ("norface.training.stages.critic_config", "CriticConfig"),
    "norface train nor": ("norface.training.stages.nor_config", "NorConfig"),
    "norface train cla": ("norface.training.stages.cla_config", "ClaConfig"),
    "norface normalize": ("norface.cli.normalize", "NormalizeConfig"),
    "norface crossval": ("norface.evaluation.crossval_config", "CrossvalConfig"),
    "norface paper": ("norface.paper.config", "PaperConfig"),
    "norface quickstart": ("norface.quickstart.settings", "QuickstartConfig"),
}
"Command => module and class of its config."

INTRODUCTION = """\
# Config reference

Generated from the code; every command below takes `-c FILE.yaml` with the differences from these
defaults, and `key=value` words that win over it. Keys of an inner block are written with dots
(`data.shards=[shards/bp4d]`). `like: OTHER.yaml` in a file takes over what another file says, by a
path from its own folder; what stands beside it wins. What is unknown is refused with the nearest
name that there is.
"""


def build_reference() -> str:
    """The page: commands first, then each block once, in the order in which they are met."""
    parts, waiting = [INTRODUCTION], []
    for command, (module, name) in COMMANDS.items():
        schema: type[Config] = getattr(importlib.import_module(module), name)
        parts.append(f"## {command}\n\n{describe_schema(schema)}")
        waiting += inner_schemas(schema)
    roots = {name for _, name in COMMANDS.values()}
    seen: dict[str, type[Config]] = {}
    while waiting:
        schema = waiting.pop(0)
        if seen.setdefault(schema.__name__, schema) is not schema:
            raise ValueError(f"two config classes are called {schema.__name__}; rename one")
    # Breadth first, so that a block stands near those that hold it.
    order, at = list(seen.values()), 0
    while at < len(order):
        for inner in inner_schemas(order[at]):
            if seen.setdefault(inner.__name__, inner) is not inner:
                raise ValueError(f"two config classes are called {inner.__name__}; rename one")
            if inner not in order:
                order.append(inner)
        at += 1
    parts.append("## Blocks")
    parts += [
        f"### {schema.__name__}\n\n{describe_schema(schema)}"
        for schema in order
        if schema.__name__ not in roots
    ]
    return "\n\n".join(parts) + "\n"


def build_corpora() -> str:
    """A section a corpus: what its reader says of it, its tree, counts and settings."""
    import inspect

    from norface.data.corpora.base import READERS, open_corpus

    parts = []
    for name in READERS:
        reader = open_corpus(name, "ROOT")
        about = inspect.getdoc(inspect.getmodule(type(reader))) or ""
        parts.append(f"### {name}\n\n{about}")
        parts.append("\n".join(["```text", reader.tree, "```"]))
        if reader.published:
            counts = ", ".join(f"{key} {value:,}" for key, value in reader.published.items())
            parts.append(f"Published: {counts}.")
        if reader.Options.model_fields:
            parts.append(f"Settings of `norface prepare {name} ROOT OUT key=value`:")
            parts.append(tabulate_keys(reader.Options))
    return "\n\n".join(parts)


def inner_schemas(schema: type[Config]) -> list[type[Config]]:
    """Config classes that the fields of a class hold."""
    found = [
        one for field in schema.model_fields.values() for one in list_schemas(field.annotation)
    ]
    return list(dict.fromkeys(found))


def describe_schema(schema: type[Config]) -> str:
    """The class's sentence and a table of its keys."""
    about = " ".join((schema.__doc__ or "").split())
    return escape(about) + "\n\n" + tabulate_keys(schema)


def tabulate_keys(schema: type[Config]) -> str:
    """A table of the keys."""
    rows = ["| key | kind | default | |", "|---|---|---|---|"]
    for name, field in schema.model_fields.items():
        meaning = describe_meaning(schema, name)
        cells = [f"`{name}`", describe_kind(field), describe_default(field), meaning]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def describe_meaning(schema: type[Config], name: str) -> str:
    """The sentence below the field, here or where it was declared first; of a block without one,
    what the block's class says of itself."""
    for one in schema.__mro__:
        fields = getattr(one, "model_fields", {})
        if name in fields and fields[name].description:
            return escape(" ".join(fields[name].description.split()))
    inner = list_schemas(schema.model_fields[name].annotation)
    return escape(" ".join((inner[0].__doc__ or "").split())) if inner else ""


def escape(text: str) -> str:
    """Text in which Markdown sees neither HTML nor emphasis."""
    return re.sub(r"([<*_])", r"\\\1", text)


def describe_default(field: FieldInfo) -> str:
    """The default as yaml would have it; of a block, what differs from its own table."""
    value = field.default
    if field.default_factory is not None:
        return "of the machine"
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Config):
        changed = {
            name: getattr(value, name)
            for name, inner in type(value).model_fields.items()
            if getattr(value, name) != inner.get_default(call_default_factory=True)
        }
        return f"`{show(changed)}`" if changed else ""
    return f"`{show(value)}`"


def show(value: Any) -> str:
    """A value as yaml."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show(one) for one in value) + "]"
    if isinstance(value, Config):
        return show(value.model_dump(exclude_unset=True))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{show(k)}: {show(v)}" for k, v in value.items()) + "}"
    return str(value)


def describe_kind(field: FieldInfo) -> str:
    """What a key may be: names of types, the values of a choice, limits."""
    limits = []
    for one in field.metadata:
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            if getattr(one, name, None) is not None:
                limits.append(f"{sign} {getattr(one, name):g}")
    kind = name_kind(field.annotation)
    return kind + (f", {' and '.join(limits)}" if limits else "")


def name_kind(annotation: Any) -> str:
    """A type in words; blocks are links to their tables."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (None, type(None)):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, Config):
        name = annotation.__name__
        command = [text for text, (_, known) in COMMANDS.items() if known == name]
        return f"[{name}](#{(command[0] if command else name).lower().replace(' ', '-')})"
    if origin is typing.Annotated:
        return name_kind(inner[0])
    if origin is typing.Literal:
        return ", ".join(f"`{show(one)}`" for one in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(name_kind(one) for one in inner))
    if origin in (list, tuple):
        named = dict.fromkeys(name_kind(one) for one in inner if one is not Ellipsis)
        return f"list of {' and '.join(named)}"
    if origin is dict:
        return f"names => {name_kind(inner[1])}"
    names = {int: "whole number", float: "number", str: "text", bool: "true, false", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", "anything").lower())
