"""One stage from a config to exported weights, in the run folder that belongs to that config."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from norface.config import flatten, read_yaml
from norface.errors import CheckpointError, ConfigError
from norface.system_metrics import SYSTEM_FILE
from norface.tracking import (
    CONFIG_FILE,
    METRICS_FILE,
    RUN_FILE,
    Run,
    open_run,
    read_facts,
    write_facts,
    writing,
)
from norface.training.agreement import on_main
from norface.training.backends.base import Backend, BackendConfig, build_backend
from norface.training.checkpoint import CheckpointFolder, explain_write_failure
from norface.training.dry_run import dry_run
from norface.training.folder_lock import alone_in
from norface.training.memory_hint import explaining_memory
from norface.training.preemption import StoppedOnRequest, catch_stop_signals
from norface.training.seeding import seed_everything
from norface.training.stage import Stage, StageConfig
from norface.training.trainer import Trainer
from norface.training.watchdog import watching

FREE_KEYS = (
    "name",
    "root",
    "tracking.*",
    "trainer.images",
    "trainer.*_every_steps",
    "trainer.save_in_background",
    "trainer.keep_*",
    "trainer.dry_run",
    "trainer.hang_seconds",
    "trainer.profile*",
    # The trainer compares the global batch, which is what matters.
    "trainer.batch_per_rank",
    # What runs the ranks moves no sample either; docs/backends.md says what is then equal.
    "backend.world_size",
    "backend.threads",
    "backend.device",
    "backend.kind",
    "backend.zero_stage",
    "backend.deepspeed",
    "backend.static_graph",
    "*.workers",
    # Where pictures are kept once they were fetched or decoded: a local disk, another on each node.
    "data.cache_folder",
    "data.decoded_folder",
    "data.cache",
    # What is only asked of the shards, whose names are compared.
    "data.corpora",
    # What is computed twice is computed alike.
    "*gradient_checkpointing",
)
"Keys that may change between two starts of one run: they move no sample and no equation."

LOST_RANK = ("connection closed", "connection reset", "connection refused", "broken pipe")


def run_stage(
    stage_class: type[Stage], config: StageConfig, *, tags: Mapping[str, str] | None = None
) -> Path:
    """Train a stage, from the newest checkpoint of ROOT/NAME if there is one; returns that folder.

    All ranks call it; a process may call it many times. A run that is finished is left as it is,
    and one that another process trains is refused. Raises NorfaceError on what the user can mend,
    and StoppedOnRequest (a SystemExit with code 75) after saving, when a signal asked for it.
    """
    folder = run_folder(config)
    with catch_stop_signals() as stop, running_backend(config.backend) as backend:
        if on_main(backend, lambda: check_folder(folder, config)):
            if backend.is_main:
                print(f"{folder}: finished already; ask for more trainer.images or another name=")
            return folder
        named = {"stage": stage_class.name, **(tags or {})}
        with contextlib.ExitStack() as stack:
            stack.enter_context(alone_in(backend, folder))
            watchdog = stack.enter_context(watching(backend, folder, config.trainer.hang_seconds))
            stack.enter_context(explaining_memory(config, backend.rank))
            seed_everything(config.seed)
            stage = stage_class.choose(config)(config, backend)  # type: ignore[call-arg]
            if backend.is_main:
                print("".join(f"{note}\n" for note in stage.notes), end="", flush=True)
            begun = on_main(backend, lambda: has_saved(folder))
            if config.trainer.dry_run and not begun:
                dry_run(stage, config, backend)
            run = stack.enter_context(run_on_main(backend, folder, config, named))
            trainer = Trainer(
                stage,
                config,
                backend=backend,
                checkpoints=open_checkpoints(folder, config),
                run=run,
                stop=stop,
                watchdog=watchdog,
            )
            trainer.resume()
            trainer.fit()
            with backend.at_rest():
                on_main(backend, lambda: export(stage, folder))
            if run is not None:
                run.facts["step"] = trainer.step
    return folder


def run_folder(config: StageConfig) -> Path:
    """ROOT/NAME. Raises ConfigError for a name that leads out of ROOT."""
    name = Path(config.name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ConfigError(
            f"name: found '{config.name}'; a folder below root={config.root} is meant"
        )
    return config.root / name


def open_checkpoints(folder: Path, config: StageConfig) -> CheckpointFolder:
    """The checkpoints of a run folder, kept as the config says."""
    every = config.trainer
    return CheckpointFolder(
        folder / "checkpoints", every.keep_checkpoints, every.keep_every_steps, every.keep_best
    )


@contextlib.contextmanager
def running_backend(config: BackendConfig) -> Iterator[Backend]:
    """The backend, left in the way that fits how the block ended.

    A rank that fails because another one is gone says so in one line and ends with 1: the other
    rank's own message tells why, and this is nothing the user of this rank could mend.
    """
    backend = build_backend(config)
    try:
        yield backend
    except StoppedOnRequest:
        backend.close()
        raise
    except BaseException as error:
        backend.abandon()
        if backend.world_size > 1 and any(sign in str(error).lower() for sign in LOST_RANK):
            raise SystemExit(
                f"rank {backend.rank}: another rank is gone; see its message"
            ) from error
        raise
    backend.close()


@contextlib.contextmanager
def run_on_main(
    backend: Backend, folder: Path, config: StageConfig, tags: Mapping[str, str]
) -> Iterator[Run | None]:
    """The open run on rank 0, None on the others; all ranks fail when it cannot be opened."""
    opened: list[Run] = []

    def open_it() -> None:
        about = config.describe_run()
        check_data(folder, about.get("datasets", []))
        about["tags"] = {**about.get("tags", {}), **tags}
        opened.append(
            open_run(
                folder,
                kind=tags["stage"],
                tracking=config.tracking,
                root=config.root,
                config=config,
                **about,
            )
        )

    on_main(backend, open_it)
    if not opened:
        yield None
        return
    with opened[0] as run:
        yield run
        # Final weights; what a killed process left aside begins with a dot.
        run.note(models=sorted(path.name for path in folder.glob("[!.]*.safetensors")))


def export(stage: Stage, folder: Path) -> None:
    """Final weights into the run folder. Raises CheckpointError when they cannot be written."""
    try:
        stage.export(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: final weights not written ({explain_write_failure(error, folder)}); make"
            " room and start the same command again"
        ) from error


def check_folder(folder: Path, config: StageConfig) -> bool:
    """Whether the run is finished. Raises CheckpointError when the folder is another config's."""
    saved = folder / CONFIG_FILE
    if not saved.exists():
        return False
    before, now = flatten(read_yaml(saved)), flatten(config.model_dump(mode="json"))
    failed_start = is_failed_start(folder)
    for key in sorted(before.keys() | now.keys()):
        free = any(fnmatch.fnmatch(key, pattern) for pattern in FREE_KEYS)
        if not free and before.get(key) != now.get(key):
            if failed_start:
                put_aside(folder)
                return False
            raise CheckpointError(
                f"{folder} belongs to another config: {key} was {before.get(key)!r}, is"
                f" {now.get(key)!r} now; choose another name= or remove that folder"
            )
    same_length = before.get("trainer.images") == now["trainer.images"]
    return same_length and read_facts(folder).get("status") == "finished"


def check_data(folder: Path, datasets: Sequence[Mapping[str, Any]]) -> None:
    """Raise CheckpointError where a run would go on with shards or sets that were written again at
    the same path since its last start."""
    if not has_saved(folder):
        return
    before = {one["source"]: one["digest"] for one in read_facts(folder).get("datasets", [])}
    for one in datasets:
        if (digest := before.get(one["source"], one["digest"])) != one["digest"]:
            raise CheckpointError(
                f"{folder} was trained on other data: the index of {one['source']} was {digest}, is"
                f" {one['digest']} now; choose another name= or put the former shards there"
            )


def is_failed_start(folder: Path) -> bool:
    """Whether a run failed before it saved anything to go on from: its config binds nobody."""
    return read_facts(folder).get("status") == "failed" and not has_saved(folder)


def has_saved(folder: Path) -> bool:
    """Whether a run folder holds checkpoints or final weights."""
    saved = (*(folder / "checkpoints").glob("[!.]*"), *folder.glob("[!.]*.safetensors"))
    return bool(saved)


def put_aside(folder: Path) -> None:
    """Move what a failed start wrote to FOLDER/failed-1 (or -2 ...), so that another config can
    have the name; the next run has an id of its own. Raises CheckpointError."""
    number = 1 + len(list(folder.glob("failed-*")))
    aside = folder / f"failed-{number}"
    with writing(aside):
        aside.mkdir()
        for name in (RUN_FILE, METRICS_FILE, SYSTEM_FILE, "samples", CONFIG_FILE):
            if (folder / name).exists():
                (folder / name).rename(aside / name)
    facts = read_facts(aside)
    write_facts(aside, {**facts, "root": os.path.join("..", facts["root"])})
    print(f"{folder}: an earlier start failed and saved nothing; its files are in {aside.name}")
