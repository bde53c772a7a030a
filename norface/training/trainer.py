"""Trainer: counts steps and pictures and calls the stage. It knows no model, no loss and no face.

A step edge is the moment after a step. There, in this order: all ranks agree whether to go on,
metrics are written, a sample grid is drawn, a checkpoint is saved, a stop request is followed. So
a checkpoint's metrics are on disk before it is, and a run that resumes writes the same lines again.

The global random generators are seeded anew before each step by (seed, step, rank). They carry
nothing from one step to the next, and so a checkpoint need not hold them: reading ahead, drawing a
sample grid or building a loader cannot make a resumed run another one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch

from norface.config import config_hash
from norface.errors import CheckpointError, ConfigError, TrainingError
from norface.progress import Progress
from norface.tracking import CONFIG_FILE, Run
from norface.training.agreement import Looks, fail_on_all, on_main
from norface.training.backends.base import Backend
from norface.training.checkpoint import CheckpointFolder, Manifest, non_finite_tensor
from norface.training.finiteness import describe_non_finite, loss_terms
from norface.training.observing import MetricWindow, share_of_machine
from norface.training.preemption import StoppedOnRequest, StopRequest
from norface.training.profiling import ProfileWindow
from norface.training.saving import CheckpointWriter
from norface.training.seeding import seed_step
from norface.training.stage import Stage, StageConfig, count_steps
from norface.training.watchdog import Watchdog


class Trainer:
    """Drives one stage from its newest checkpoint to the end.

    `run` is None on all ranks but the first. `resume` then `fit`.
    """

    def __init__(
        self,
        stage: Stage,
        config: StageConfig,
        *,
        backend: Backend,
        checkpoints: CheckpointFolder,
        run: Run | None,
        stop: StopRequest,
        watchdog: Watchdog | None = None,
    ):
        self.stage, self.config, self.backend = stage, config, backend
        self.checkpoints, self.run, self.stop = checkpoints, run, stop
        self.every, self.watchdog = config.trainer, watchdog
        on_gpu = backend.device.type != "cpu"
        chosen = config.trainer.save_in_background
        self.writer = CheckpointWriter(checkpoints, background=on_gpu if chosen is None else chosen)
        self.looks = Looks(on_gpu=on_gpu)
        self.profile = ProfileWindow(
            config.trainer.profile, checkpoints.folder.parent, backend.rank
        )
        self.global_batch = config.trainer.batch_per_rank * backend.world_size
        self.steps = count_steps(stage, config, backend.world_size)
        self.step = 0
        self.window = MetricWindow()
        self.measures: dict[str, float] = {}
        self.best: float | None = None
        self._seconds_a_picture: float | None = None
        self._unchecked: list[tuple[int, dict[str, torch.Tensor], list[str]]] = []

    @property
    def images(self) -> int:
        """Pictures trained on so far, over all ranks."""
        return self.step * self.global_batch

    def resume(self) -> None:
        """Go back to the newest whole checkpoint, if there is one. All ranks."""
        manifest, self.best = on_main(self.backend, self._choose_checkpoint)
        if manifest is not None:
            state = self.checkpoints.load(manifest.step)
            windows = state.pop("trainer")["windows"]
            self.stage.load_state_dict(state)
            self.step = manifest.step
            if manifest.world_size == self.backend.world_size:
                self.window = MetricWindow(windows[self.backend.rank])
        if self.run is not None:
            self.run.cut_back(self.step)
            if manifest is not None:
                print(
                    f"{self.run.folder}: going on from step {self.step} of {self.steps}"
                    f" ({manifest.world_size} ranks before, {self.backend.world_size} now)"
                )

    def fit(self) -> None:
        """Train to the last step. Raises TrainingError, and StoppedOnRequest once it is saved."""
        total = self.steps * self.global_batch
        batches = iter(self.stage.batches(self.step))
        progress = Progress(self.stage.name, total, done=self.images) if self.run else None
        try:
            self.window.restart_clock()
            while self.step < self.steps:
                self._train_one(batches)
                if progress is not None:
                    progress.advance(self.global_batch, self.window.note)
                self._step_edge()
            on_main(self.backend, self.writer.wait)
        finally:
            self.profile.close()
            if progress is not None:
                progress.close()
            # Ends a generator's reading processes now, not when garbage is collected.
            getattr(batches, "close", lambda: None)()

    def _train_one(self, batches: Iterator[dict[str, Any]]) -> None:
        started = time.monotonic()
        batch = next(batches)
        self.window.waited_s += time.monotonic() - started
        self.profile.before_step(self.step)
        seed_step(self.config.seed, self.step, self.backend.rank)
        metrics = self.stage.train_batch(batch, self.step)
        self.window.add(metrics)
        keys = self.stage.describe_batch(batch)
        self._unchecked.append((self.step, loss_terms(metrics), keys))
        self.step += 1
        self.profile.after_step(self.step)
        if self.watchdog is not None:
            self.watchdog.step = self.step

    def _step_edge(self) -> None:
        save_often = self.stage.save_every_steps or self.every.save_every_steps
        log, save = self._due(self.every.log_every_steps), self._due(save_often)
        often = self.stage.evaluate_every_steps or self.every.evaluate_every_steps
        evaluate, sample = self._due(often), self._due(self.every.sample_every_steps)
        if not (self.looks.due(self.step) or log or save or evaluate or sample):
            return
        stop = self._agree()
        values = self._measure() if log else {}
        looked_at = time.monotonic()
        found = self.stage.evaluate(self.step) if evaluate else {}
        self.measures = {f"validation/{name}": value for name, value in found.items()}
        if log or evaluate or sample:
            with self.backend.at_rest() if sample else contextlib.nullcontext():
                on_main(self.backend, lambda: self._write(values | self.measures, sample, evaluate))
        save = (evaluate and self._is_best()) or save
        self.window.leave_out(looked_at, saving=False)
        if save or stop:
            looked_at = time.monotonic()
            self.save()
            self.window.leave_out(looked_at, saving=True)
        if stop and self.step < self.steps:
            on_main(self.backend, self.writer.wait)
            raise StoppedOnRequest(self.checkpoints.folder.parent, self.step)

    def _measure(self) -> dict[str, float]:
        """Means since the last log step, and how fast the machine was."""
        if self._seconds_a_picture is None:
            looked_at, operations = time.monotonic(), 0.0
            with contextlib.suppress(NotImplementedError, RuntimeError):
                operations = self.stage.count_operations() if self.backend.is_main else 0.0
            half = self.config.backend.precision == "bf16"
            dtype = torch.bfloat16 if half else torch.float32
            self._seconds_a_picture = share_of_machine(operations, self.backend, dtype)
            self.window.leave_out(looked_at, saving=False)
        return self.window.close(self.backend, self.global_batch, self._seconds_a_picture)

    def _is_best(self) -> bool:
        """Whether the measures of now are the best so far, where `trainer.keep_best` asks."""
        if not self.every.keep_best:
            return False
        score = self.checkpoints.retention.score(self.measures)
        if score is None:
            there = ", ".join(self.measures) or "none; does it have validation data?"
            raise ConfigError(
                f"trainer.keep_best: found '{self.every.keep_best}'; this stage measures: {there}"
            )
        better = self.best is None or score > self.best
        self.best = score if better else self.best
        return better

    def _due(self, every: int) -> bool:
        return self.step == self.steps or (every > 0 and self.step % every == 0)

    def _agree(self) -> bool:
        """Whether any rank was asked to stop. Ends all ranks when a loss of any is not finite."""
        report = next(filter(None, map(self._non_finite, self._unchecked)), "")
        failed = self.writer.failure is not None
        proposed = self.looks.propose(self.step)
        flags = torch.tensor([self.stop.asked, bool(report), failed, proposed], dtype=torch.int32)
        found = self.backend.all_reduce_sum(flags.to(self.backend.device)).tolist()
        stop, bad, failed, steps = found
        self.looks.accept(self.step, steps // self.backend.world_size)
        self._unchecked.clear()
        if failed:
            on_main(self.backend, self.writer.wait)
        if bad:
            reports = [text for text in self.backend.gather_objects(report) if text]
            fail_on_all(self.backend, TrainingError(reports[0]))
        return bool(stop)

    def _non_finite(self, checked: tuple[int, dict[str, torch.Tensor], list[str]]) -> str:
        step, losses, keys = checked
        found = describe_non_finite(losses, keys, self.backend.rank)
        return found and (
            f"step {step + 1}: {found}; nothing of it was saved; look at those pictures or lower"
            " the learning rate, then start the same command again"
        )

    def _write(self, values: dict[str, float], sample: bool, evaluated: bool) -> None:
        """Metrics, pictures of the evaluation and sample grid of this step; rank 0."""
        assert self.run is not None
        if values:
            self.run.log(values, self.step, self.images)
        for name, figure in (self.stage.figures() if evaluated else {}).items():
            self.run.log_image(name, figure, self.step)
        if sample and (pixels := self.stage.sample_grid()) is not None:
            self.run.log_image("samples", pixels, self.step)

    def save(self) -> None:
        """Write a checkpoint of this step. All ranks; raises CheckpointError, TrainingError."""
        windows = self.backend.gather_objects(self.window.state())
        state = self.stage.state_dict()
        on_main(self.backend, lambda: self._save(state, windows))

    def _save(self, state: dict[str, Any], windows: list[dict[str, list[float]]]) -> None:
        assert self.run is not None
        if (tensor := non_finite_tensor(state["models"])) is not None:
            raise TrainingError(
                f"step {self.step}: weights {tensor} are not finite; not saved; lower the learning"
                " rate, then start the same command again"
            )
        manifest = Manifest(
            stage=self.stage.name,
            step=self.step,
            images=self.images,
            global_batch=self.global_batch,
            world_size=self.backend.world_size,
            config_hash=config_hash(self.config),
            measures=self.measures,
        )
        config_text = (self.run.folder / CONFIG_FILE).read_text(encoding="utf-8")
        self.writer.save({**state, "trainer": {"windows": windows}}, manifest, config_text)

    def _choose_checkpoint(self) -> tuple[Manifest | None, float | None]:
        """The newest whole checkpoint, and the best measure up to it."""
        manifest = self.checkpoints.newest_whole()
        if manifest is not None and manifest.global_batch != self.global_batch:
            raise CheckpointError(
                f"{self.checkpoints.folder}: trained with a global batch of"
                f" {manifest.global_batch}, found {self.backend.world_size} ranks x"
                f" {self.every.batch_per_rank}; choose trainer.batch_per_rank to match"
            )
        if manifest is not None and manifest.step > self.steps:
            raise CheckpointError(
                f"{self.checkpoints.folder}: already at {manifest.images} images, trainer.images"
                f" asks for {self.steps * self.global_batch}; ask for more or choose another name="
            )
        measured = self.checkpoints.measures(upto=manifest.step if manifest is not None else 0)
        scores = map(self.checkpoints.retention.score, measured.values())
        return manifest, max((score for score in scores if score is not None), default=None)
