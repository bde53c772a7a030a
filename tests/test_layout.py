"""The rules that keep the parts apart, checked by reading the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("norface", "launchers", "tune")
    for path in sorted((PROJECT / package).rglob("*.py"))
}
"Dotted name => file."
GENERATOR = ("norface.models.normalizer", "norface.normalize", "norface.training.stages.nor")
KNOWS_FACES = ("models", "losses", "critics", "data", "synthetic", "training.stages")


@cache
def parse(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@cache
def imported_by(name: str) -> frozenset[str]:
    """Every dotted name that a module imports, also inside functions, but not for typing only."""
    found = set()
    for node in walk_run_time(parse(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import; write the full name"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def walk_run_time(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_run_time(child)


def closure(name: str) -> set[str]:
    """The project's modules that end up imported when `name` is used."""
    seen, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current in MODULES and current not in seen:
            seen.add(current)
            waiting.extend(imported_by(current))
            waiting.append(current.rpartition(".")[0])
    return seen


def modules_under(*packages: str) -> list[str]:
    return [name for name in MODULES if under(name, *packages)]


def test_the_package_knows_neither_launchers_nor_search_nor_their_libraries():
    offences = {
        name: found
        for name in modules_under("norface")
        for found in imported_by(name)
        if under(found, "launchers", "tune", "ray", "submitit")
    }
    assert offences == {}


def test_only_launchers_and_job_scripts_read_slurms_variables():
    offences = [
        name
        for name in modules_under("norface", "tune")
        for node in ast.walk(parse(name))
        if isinstance(node, ast.Constant) and str(node.value).startswith("SLURM_")
    ]
    assert offences == []


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in MODULES
        if under(name, "norface.training.stages.cla", "norface.evaluation", "norface.cli.crossval")
    ],
)
def test_the_classifying_half_never_imports_the_generator(name):
    assert [found for found in closure(name) if under(found, *GENERATOR)] == []


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in modules_under("norface.training", "norface.tracking")
        if not under(name, "norface.training.stages")
    ],
)
def test_the_engine_knows_no_model_no_loss_and_no_face(name):
    packages = [f"norface.{part}" for part in KNOWS_FACES]
    reached = {found for found in imported_by(name) if found in MODULES and under(found, *packages)}
    # The registry of stages holds names only; it is how a run finds its stage.
    assert reached - {"norface.training.stages"} == set()


def test_losses_know_neither_data_nor_training():
    offences = {
        name: found
        for name in modules_under("norface.losses")
        for found in imported_by(name)
        if under(found, "norface.data", "norface.training")
    }
    assert offences == {}


def test_no_module_is_a_bag_of_leftovers():
    assert [name for name in MODULES if re.search(r"util|helper|misc|common", name)] == []


def test_every_file_can_be_read_in_one_sitting():
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > 350} == {}


def test_ci_runs_the_test_command_of_the_readme():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    commands = [line.strip() for line in readme.splitlines() if "-m pytest" in line]
    assert commands, "README.md shows no test command"
    assert commands[0] in (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("script", sorted((PROJECT / "slurm").glob("*.sh")), ids=lambda p: p.name)
def test_job_scripts_are_named_in_the_readme_and_hold_no_cluster_facts(script):
    text = script.read_text(encoding="utf-8")
    assert not re.search(r"#SBATCH.*(--partition|--account|-p |-A )", text)
    if script.name != "common.sh":
        assert script.name in (PROJECT / "README.md").read_text(encoding="utf-8")
