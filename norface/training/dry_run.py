"""One whole step before a run begins: what cannot work is told before anything is opened.

A fresh start trains on its first batch as its last log step would (every loss is there, and what is
measured at log steps only), optimizer included, and then goes back to where it was, by the way that
a resumed run goes back to its checkpoint: a checkpoint holds all that a run goes on from. Readers
begin anew and generators are put back, so the run that follows is the same bit for bit.

A begun run makes none: its checkpoint says that steps fit, and its run is open in MLflow already.
"""

from __future__ import annotations

import time

from norface.errors import TrainingError
from norface.training.agreement import fail_on_all
from norface.training.backends.base import Backend
from norface.training.finiteness import describe_non_finite, loss_terms
from norface.training.observing import measure_memory
from norface.training.saving import copy_to_host
from norface.training.seeding import keeping_generators, seed_step
from norface.training.stage import Stage, StageConfig, count_steps

GPU_STEPS = 2
"On a GPU memory is fullest from the second step on, when the optimizer's state is there too."


def dry_run(stage: Stage, config: StageConfig, backend: Backend, steps: int | None = None) -> None:
    """Train `steps` (one, on a GPU two) and undo them. All ranks; only before the first step of a
    run, while no optimizer has a state: that alone is whole on every rank under ZeRO.

    Raises what the step raises, and TrainingError for a loss that is not finite.
    """
    steps = steps or (GPU_STEPS if backend.device.type == "cuda" else 1)
    started = time.monotonic()
    total, every = count_steps(stage, config, backend.world_size), config.trainer.log_every_steps
    step = (total // every * every or total) - 1
    report = ""
    with keeping_generators():
        # In host memory: a second copy of the weights on a GPU might be what does not fit.
        before = copy_to_host(stage.state_dict())
        batches = iter(stage.batches(0))
        try:
            for _ in range(steps):
                batch = next(batches)
                seed_step(config.seed, step, backend.rank)
                losses = loss_terms(stage.train_batch(batch, step))
                # Waits for the device too, which tells of its errors late. The first report is
                # kept: after a step of NaN all weights are.
                report = report or describe_non_finite(
                    losses, stage.describe_batch(batch), backend.rank
                )
        finally:
            getattr(batches, "close", lambda: None)()
        stage.load_state_dict(before)
    reports = [text for text in backend.gather_objects(report) if text]
    if reports:
        told = (
            f"dry run: {reports[0]}; no run was opened; look at those pictures (`norface check`) or"
            " lower the learning rate, then start the same command again"
        )
        fail_on_all(backend, TrainingError(told))
    if backend.is_main:
        memory = measure_memory(backend.device)
        held = memory.get("gpu_memory_gb", memory["memory_gb"])
        print(
            f"dry run: {steps} step(s) of {config.trainer.batch_per_rank} pictures a rank in"
            f" {time.monotonic() - started:.1f} s, undone; rank 0 held at most {held:.1f} GB",
            flush=True,
        )
