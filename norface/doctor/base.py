"""What the doctor is told, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from norface.config import Config
from norface.critics.base import CriticsConfig
from norface.errors import NorfaceError
from norface.losses.weighted import LossWeights
from norface.tracking import TrackingConfig
from norface.training.backends.base import BackendConfig


class DataPart(Config):
    """`data` of a config, of which only the places are looked at."""

    model_config = ConfigDict(extra="ignore")

    shards: list[Path] = []
    normalized: list[Path | list[Path]] = []
    cache_folder: Path | None = None


class ClaPart(Config):
    """`cla` of a cross-validation."""

    model_config = ConfigDict(extra="ignore")

    data: DataPart = DataPart()


class DoctorConfig(Config):
    """What `norface doctor` reads of a config, whatever stage it is for."""

    model_config = ConfigDict(extra="ignore")

    root: Path = Path("runs")
    "Folder that holds the run folders."
    backend: BackendConfig = BackendConfig()
    tracking: TrackingConfig = TrackingConfig()
    critics: CriticsConfig | None = None
    losses: dict[str, Any] = {}
    data: DataPart = DataPart()
    cla: ClaPart = ClaPart()

    @property
    def shards(self) -> list[Path]:
        """Folders of shards that the config names."""
        return [*self.data.shards, *self.cla.data.shards]

    @property
    def cache_folder(self) -> Path | None:
        """Where shards of an object store are kept."""
        return self.data.cache_folder or self.cla.data.cache_folder

    @property
    def loss_weights(self) -> LossWeights | None:
        """The losses of stage nor; None for another stage's."""
        return LossWeights(**self.losses) if self.critics is not None else None


class Finding(Config):
    """One line of the doctor."""

    check: str
    "What was looked at."
    state: Literal["ok", "failed", "skipped"]
    found: str
    "What it is like, or what is wrong and what to do."


class Complaint(Exception):
    """A check's failure: its text says what is wrong and what to do."""


def look(check: str, work: Callable[[], str | None], otherwise: str = "not asked for") -> Finding:
    """Run a check: its text is what was found; where there is none, `otherwise` says why."""
    try:
        found = work()
    except (Complaint, NorfaceError) as error:
        return Finding(check=check, state="failed", found=str(error))
    except Exception as error:
        # The doctor reports what it meets; it does not fall ill itself.
        said = (str(error).splitlines() or [""])[0]
        return Finding(check=check, state="failed", found=f"{type(error).__name__}: {said}")
    return Finding(check=check, state="ok" if found else "skipped", found=found or otherwise)
