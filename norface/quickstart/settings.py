"""Settings of `norface quickstart`: what configs/nor/synthetic-64.yaml and configs/cla/
synthetic-64.yaml say, on corpora that it renders itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field

from norface.config import Config
from norface.tracking import TrackingConfig

SIDE = 64
"Pixels of a picture's side; the shipped critics look at this size."


class QuickstartConfig(Config):
    """Sizes of the quickstart. The defaults fit 15 minutes on two cores."""

    root: Path = Path("runs/quickstart")
    "Everything is written below this folder; the same command again goes on where it was."
    seed: int = Field(0, ge=0)
    "Of the corpora, of F_nor and of the classifier."
    normalizer_subjects: int = Field(160, ge=8)
    "Persons that F_nor is trained on; no fold contains them."
    normalizer_frames: int = Field(24, ge=2)
    "Pictures of each."
    targets: int = Field(8, ge=1)
    """More persons, of whom one becomes the target: who looks most straight into the camera, and
    whose action the reader sees best."""
    target_frames: int = Field(1600, ge=2)
    "Frames of the target's clip, which begins at rest."
    subjects: int = Field(36, ge=9)
    "Persons of the three folds."
    frames: int = Field(24, ge=4)
    "Pictures of each."
    target_renders: int = Field(600, ge=64)
    "Pictures of the target person that the reader which measures au_r is trained on."
    normalizer_images: int = Field(22_000, gt=0)
    "Pictures that F_nor is trained on, with repetition."
    epochs: int = Field(16, gt=0)
    "Of the classifier in each fold."
    workers: int = Field(default_factory=lambda: min(os.cpu_count() or 1, 8), ge=1)
    "Processes that render, and folds that train at once."
    tracking: TrackingConfig = TrackingConfig(experiment="quickstart")


NORMALIZER: dict[str, Any] = {
    "self_pair": 0.05,
    "clip_pair": 0.85,
    "intensity_noise": 0.1,
    "trainer": {
        "batch_per_rank": 8,
        "log_every_steps": 50,
        "sample_every_steps": 250,
        "save_every_steps": 500,
    },
    "encoder_weights": "packaged",
    "normalizer": {
        "encoder": {"kind": "reader", "width": 128, "original": "intensity"},
        "merging": {"heads": 4, "mlp_ratio": 2, "blocks": 0, "start": "aligned"},
        "decoder": {"channels": [], "output": "patches", "paint": "finest"},
    },
    "discriminator": {"channels": [16, 32, 64]},
    "critics": {
        kind: {"source": "synthetic"}
        for kind in ("identity", "perceptual", "landmarks", "expression", "eyebrow")
    },
    "losses": {
        "adv": 0.03,
        "rec": 60,
        "perc": 0.5,
        "id": 1,
        "lm": 20,
        "exp": 0.3,
        "eye": 0.1,
        "norm": {"rec": "l1"},
    },
    "adversarial_start_step": 100,
    "optimizer": {
        "learning_rate": 3e-3,
        "discriminator_learning_rate": 2e-4,
        "betas": (0.5, 0.99),
        "schedule": {"kind": "cosine", "warmup_steps": 50, "final": 0.05},
        "clip_norm": 5.0,
        "ema_decay": 0.99,
    },
}
"F_nor of configs/nor/synthetic-64.yaml, without its data."

CLASSIFIER: dict[str, Any] = {
    "task": "au",
    "model": {
        "extractor": "conv",
        "centre_streams": True,
        "moe": {"hidden_ratio": 2, "renormalize": True},
    },
    "optimizer": {"learning_rate": 7e-4, "weight_decay": 0.2},
    "schedule": {"warmup_steps": 60},
    "augment": {"flip": 0.5, "shift": 0.02, "scale": 0.02, "brightness": 0.05, "contrast": 0.1},
    "trainer": {"batch_per_rank": 16, "log_every_steps": 20, "save_every_steps": 0},
}
"The classifier of configs/cla/synthetic-64.yaml, without its data."
