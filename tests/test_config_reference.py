"""The config reference says what the code says, and the site has all that it links to."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml

from norface.config_reference import COMMANDS, build_corpora, build_reference, inner_schemas
from norface.data.corpora.base import READERS
from norface.training.stages import STAGES
from norface.training.stages.cla_config import ClaConfig

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def page() -> str:
    return build_reference()


def section(page: str, title: str) -> str:
    return page.split(f"# {title}\n", 1)[1].split("\n#", 1)[0]


def test_every_stage_and_every_key_of_every_block_is_there(page):
    assert {f"norface train {stage}" for stage in STAGES} <= COMMANDS.keys()
    waiting = [
        (command, getattr(importlib.import_module(module), name))
        for command, (module, name) in COMMANDS.items()
    ]
    seen = set()
    while waiting:
        title, schema = waiting.pop()
        text = section(page, title)
        for key in schema.model_fields:
            assert f"\n| `{key}` |" in text, (title, key)
        roots = {name: command for command, (_, name) in COMMANDS.items()}
        for inner in inner_schemas(schema):
            if inner not in seen:
                seen.add(inner)
                waiting.append((roots.get(inner.__name__, inner.__name__), inner))
    assert len(seen) > 30


def test_a_row_has_kind_limits_default_and_the_sentence_below_the_field(page):
    rows = section(page, "norface train cla")
    sentence = "Passes over the train subjects; `trainer.images` is not used."
    assert f"| `epochs` | whole number, > 0 | `40` | {sentence} |" in rows
    assert "| `task` | `au`, `intensity`, `emotion` | `au` |" in rows
    # Declared in a base class, the default changed here; the sentence is that of the base.
    assert "| `name` | text | `cla` | Name of the run: its folder is ROOT/NAME. |" in rows
    assert "[ClaDataConfig](#cladataconfig)" in rows
    schedule = section(page, "norface train critic")
    assert "`{kind: cosine, warmup_steps: 200}`" in schedule


def test_links_lead_to_headings(page):
    slug = lambda title: re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
    headings = {slug(title) for title in re.findall(r"^#+ (.+)$", page, re.M)}
    links = set(re.findall(r"\]\(#([^)]+)\)", page))
    assert links and links <= headings


def test_defaults_that_are_shown_are_those_of_the_class(page):
    shown = dict(
        re.findall(r"\n\| `(\w+)` \| [^|]+\| `([^`]*)` \|", section(page, "norface train cla"))
    )
    for key in ("task", "epochs", "units", "seed", "root"):
        value = ClaConfig.model_fields[key].default
        assert yaml.safe_load(shown[key]) == (str(value) if isinstance(value, Path) else value)


def test_every_corpus_has_a_section_with_its_tree():
    text = build_corpora()
    for name in READERS:
        assert f"### {name}\n" in text
    assert "Published: samples 130,814, subjects 27." in text
    assert "| `camera` | `left`, `right` | `left` |" in text
    intro = (PROJECT / "docs" / "corpora.md").read_text(encoding="utf-8")
    assert {f"](#{name})" for name in READERS if name != "folder"} <= set(
        re.findall(r"\]\(#\w+\)", intro)
    )


def test_pages_in_the_menu_and_pictures_in_the_pages_are_there():
    menu = yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def pages(entries):
        for entry in entries:
            for value in entry.values():
                yield from pages(value) if isinstance(value, list) else [value]

    named = set(pages(menu))
    there = {path.name for path in (PROJECT / "docs").glob("*.md")} | {"config.md"}
    assert named == there
    for path in (PROJECT / "docs").glob("*.md"):
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            file = path.parent / picture
            assert file.is_file() and file.stat().st_size < 200_000, picture
