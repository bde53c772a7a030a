"""A window of torch's profiler: `trainer.profile={start_step: 100, steps: 5}`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch

from norface.training.stage import ProfileConfig

PROFILE_FOLDER = "profile"


class ProfileWindow:
    """Writes RUN/profile/step-N-rank-R.json, a trace for chrome://tracing or Perfetto, and .txt,
    the operations that took longest. Idle without a config, and on the other ranks."""

    def __init__(self, config: ProfileConfig | None, folder: Path, rank: int):
        self.config = config if config is not None and config.rank == rank else None
        self.folder = folder / PROFILE_FOLDER
        self._profiler: torch.profiler.profile | None = None

    def before_step(self, step: int) -> None:
        """Open the window where it begins."""
        if self.config is not None and step == self.config.start_step:
            self._profiler = torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CPU]
                + [torch.profiler.ProfilerActivity.CUDA] * torch.cuda.is_available()
            )
            self._profiler.start()

    def after_step(self, step: int) -> None:
        """Close the window and write it, once `step` steps are done."""
        config = self.config
        if config is None or self._profiler is None or step < config.start_step + config.steps:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        path = self.folder / f"step-{config.start_step:08d}-rank-{config.rank}.json"
        order = "cuda_time_total" if torch.cuda.is_available() else "cpu_time_total"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(path))
            table = profiler.key_averages().table(sort_by=order, row_limit=40)
            path.with_suffix(".txt").write_text(table + "\n", encoding="utf-8")
        except (OSError, RuntimeError) as error:
            print(f"{path}: no profile written ({error}); the run goes on", file=sys.stderr)
        else:
            print(f"{path}: {config.steps} steps in torch's profiler", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Drop a window that is still open."""
        if self._profiler is not None:
            with contextlib.suppress(RuntimeError):
                self._profiler.stop()
            self._profiler = None
