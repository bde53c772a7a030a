"""Runs `run_stage` in forked processes: real ranks over real gloo, without seconds of importing."""

from __future__ import annotations

import contextlib
import gc
import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import accelerate  # noqa: F401
import torch
import torch._dynamo  # imported once, here, not in every rank
from tiny import TinyConfig, TinyStage

from launchers.local import find_free_port
from norface.config import load_config
from norface.errors import NorfaceError
from norface.training.backends import accelerate as _  # noqa: F401
from norface.training.run import run_stage
from norface.training.stage import Stage

torch.set_num_threads(1)  # a forked process cannot use the threads of the one before


def tiny_config(root: Path, *overrides: str) -> TinyConfig:
    """Sixty steps of eight pictures, without MLflow unless `overrides` say otherwise."""
    basic = [f"root={root}", "name=run", "trainer.images=480", "trainer.log_every_steps=4"]
    basic += ["trainer.save_every_steps=7", "backend.device=cpu", "tracking.mlflow=false"]
    return load_config(TinyConfig, None, [*basic, *overrides])


def import_engine() -> None:
    """What comes with DeepSpeed's first engine and brings torch's compiler: four fifths of a small
    rank's time, where it is not imported before the fork."""
    with contextlib.suppress(ImportError):
        importlib.import_module("deepspeed.runtime.zero.muon.muon_optimizer")


def start_ranks(
    config: TinyConfig,
    ranks: int = 1,
    *,
    stage: type[Stage] = TinyStage,
    runs: int = 1,
    environment: Mapping[str, str] | None = None,
) -> list[BaseProcess]:
    """A process a rank; output goes to ROOT/rank-N.txt. `runs` > 1: name=run-0, run-1 ..."""
    if config.backend.kind == "deepspeed":
        import_engine()
    torch_environment = {
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_free_port()),
    }
    processes: list[BaseProcess] = []
    for rank in range(ranks):
        own = {**torch_environment, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
        context = multiprocessing.get_context("fork")
        arguments = (config, stage, {**own, **(environment or {})}, rank, runs)
        process = context.Process(target=run_rank, args=arguments)
        process.start()
        processes.append(process)
    return processes


def run_rank(
    config: TinyConfig, stage: type[Stage], environment: Mapping[str, str], rank: int, runs: int
) -> None:
    """What a rank's process does; ends as the command line would end it."""
    # What the parent made stays: its pools of threads are not there to be waited for at its end.
    gc.freeze()
    os.environ.update(environment)
    Path(config.root).mkdir(parents=True, exist_ok=True)
    log = open(config.root / f"rank-{rank}.txt", "a", buffering=1)  # noqa: SIM115
    sys.stdout = sys.stderr = log
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    try:
        for run in range(runs):
            name = config.name if runs == 1 else f"{config.name}-{run}"
            run_stage(stage, config.model_copy(update={"name": name}))
    except NorfaceError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(2)


def wait_for(processes: list[BaseProcess], timeout_s: float = 240) -> list[int | None]:
    """Exit codes, negative for a signal; a process that hangs is killed and shows None."""
    deadline = time.monotonic() + timeout_s
    codes: list[int | None] = []
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        codes.append(process.exitcode)
        if process.exitcode is None:
            process.kill()
            process.join()
    return codes


def finish(config: TinyConfig, ranks: int = 1, **more: object) -> None:
    """Run to the end; all ranks must end with 0, however busy the machine is."""
    codes = wait_for(start_ranks(config, ranks, **more), timeout_s=600)  # type: ignore[arg-type]
    assert codes == [0] * ranks, said(config)


def said(config: TinyConfig) -> str:
    """What all ranks printed."""
    return "\n".join(path.read_text() for path in sorted(Path(config.root).glob("rank-*.txt")))
