"""Frozen code and config of a queued job, so that edits made while it waits do not reach it.

    python -m launchers.snapshot train nor -c configs/nor/pretrain.yaml data.workers=4

writes RUN/submitted/HASH, once for each content, and prints that folder (--dry-run: only prints):

    norface/ launchers/ tune/ slurm/    copies of what was there
    config.yaml                         the resolved config, where the verb has one
    setup.sh                            modules, variables and container of the cluster, if given
    .venv                               a link to the Python environment that submitted

RUN is the run's own folder; for verbs without one it is runs/VERB.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from norface.cli.arguments import Parser
from norface.config import Config, load_config
from norface.errors import ConfigError, NorfaceError
from norface.files import write_folder_aside

PROJECT = Path(__file__).resolve().parents[1]
PARTS = ("norface", "launchers", "tune", "slurm")
"Folders of the project that a job needs."
FOLDER, CONFIG, SETUP = "submitted", "config.yaml", "setup.sh"
LEFT_OUT = ("__pycache__", ".*")


class Frozen(NamedTuple):
    """A snapshot and the command that runs in it."""

    folder: Path
    "RUN/submitted/HASH, absolute."
    command: list[str]
    "The norface command with the frozen config in the place of the one that was given."


def freeze(command: Sequence[str], *, dry_run: bool = False) -> Frozen:
    """Snapshot for one norface command. Raises NorfaceError on what the command itself refuses."""
    run, config, words = resolve(command)
    files = {} if config is None else {CONFIG: dump_config(config)}
    folder = write_snapshot(run / FOLDER, files, dry_run=dry_run)
    return Frozen(folder, words if config is None else [*words, "-c", str(folder / CONFIG)])


def resolve(command: Sequence[str]) -> tuple[Path, Config | None, list[str]]:
    """Run folder, config and remaining words of a norface command.

    The words are those that are no part of the config: verb, stage, flags.
    """
    from norface.cli.main import VERBS
    from norface.evaluation.crossval_config import CrossvalConfig
    from norface.training.run import run_folder
    from norface.training.stages import load_stage

    if not command:
        raise ConfigError("no command; give a norface verb, for example: train nor -c CONFIG")
    verb, *rest = command
    if verb not in VERBS:
        raise ConfigError(f"unknown verb '{verb}'; there are: {', '.join(VERBS)}")
    module = importlib.import_module(f"norface.cli.{verb}")
    parser = Parser(f"norface {verb}")
    module.add_arguments(parser)
    found = parser.parse_intermixed_args(rest)
    if verb == "train":
        stage = load_config(load_stage(found.stage)[0], found.config, found.overrides)
        return run_folder(stage), stage, [verb, found.stage]
    if verb == "crossval":
        folds = load_config(CrossvalConfig, found.config, found.overrides)
        return folds.folder, folds, [verb, *(["--collect"] if found.collect else [])]
    if verb == "normalize":
        faces = load_config(module.NormalizeConfig, found.config, found.settings)
        return Path("runs") / f"normalize-{faces.out.name}", faces, [verb]
    return Path("runs") / verb, None, list(command)


def dump_config(config: Config) -> str:
    """The config as yaml that reads back as the same config.

    A classifier of a cross-validation stays as short as it was written: its settings change it,
    and what follows from a changed value must not have been filled in before.
    """
    from norface.evaluation.crossval_config import CrossvalConfig

    short = isinstance(config, CrossvalConfig)
    return yaml.safe_dump(config.model_dump(mode="json", exclude_unset=short), sort_keys=False)


def write_snapshot(
    parent: Path, files: Mapping[str, str], *, project: Path = PROJECT, dry_run: bool = False
) -> Path:
    """PARENT/HASH with the project's code and these files; one that is there is used again."""
    folder = (parent / hash_contents(project, files)).absolute()
    if dry_run or folder.is_dir():
        return folder
    with write_folder_aside(folder) as aside:
        for part in PARTS:
            if (project / part).is_dir():
                shutil.copytree(
                    project / part, aside / part, ignore=shutil.ignore_patterns(*LEFT_OUT)
                )
        for file, text in files.items():
            (aside / file).write_text(text, encoding="utf-8")
        os.symlink(sys.prefix, aside / ".venv")
    return folder


def hash_contents(project: Path, files: Mapping[str, str]) -> str:
    """First 12 hex digits over names and contents of code and files."""
    total = hashlib.sha256()
    for part in PARTS:
        for path in sorted((project / part).rglob("*")):
            inner = path.relative_to(project)
            hidden = any(name.startswith((".", "__pycache__")) for name in inner.parts)
            if path.is_file() and not hidden:
                total.update(f"{inner}\0{path.stat().st_size}\0".encode())
                total.update(path.read_bytes())
    for name, text in sorted(files.items()):
        total.update(f"{name}\0{len(text)}\0{text}".encode())
    return total.hexdigest()[:12]


def main(arguments: Sequence[str] | None = None) -> int:
    """Freeze, and print the folder."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    dry_run = words[0] == "--dry-run"
    return tell("launchers.snapshot", lambda: freeze(words[dry_run:], dry_run=dry_run).folder)


def tell(program: str, freezing: Callable[[], Path]) -> int:
    """Print the folder of a snapshot, or the user's mistake; returns the exit code."""
    try:
        print(freezing())
    except NorfaceError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
