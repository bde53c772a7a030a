"""How good a trial's generator is: its faces of validation subjects, judged by other networks.

    nearer_to_target   share of faces that look more like the target than like their own person
    expression_kept    r of what the judge sees in the original and in the normalized face, mean
    au_r               r of true intensity and what the judge reads, where there are labels
    score              harmonic mean of the first two: the bare target and the bare original get 0

The loss weights do not enter, so sweeps over them compare like with like.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from norface.critics.base import (
    PACKAGED,
    CriticChoice,
    CriticsConfig,
    build_critics,
    read_features,
)
from norface.critics.face_reader import FaceReaderCritic
from norface.data.folds import load_folds, make_folds
from norface.data.loader import parse_person
from norface.data.shards import Person, ShardIndex
from norface.errors import ConfigError
from norface.evaluation.normalization import (
    average_persons,
    intensity_correlation,
    nearer_to_target,
)
from norface.images import resize_pixels, to_image
from norface.models.face_networks import UNITS
from tune.config import JUDGE, MeasureConfig

if TYPE_CHECKING:
    from norface.training.stages.nor import NorStage

BATCH = 32
_log = logging.getLogger(__name__)


class Measure:
    """Measures a stage `nor`'s averaged generator. Raises ConfigError, CorpusError at once."""

    def __init__(self, config: MeasureConfig, stage: NorStage):
        self.config, self.stage = config, stage
        self.critics = build_critics(config.critics or packaged_judges(), stage.backend.device)
        for kind in ("identity", "expression"):
            if kind not in self.critics:
                raise ConfigError(f"measure.critics.{kind}: must be set; the objective needs it")
        self.warn_of_partial_judges()
        index, persons = self.choose_faces()
        seen = stage.persons & set(persons)
        if seen:
            first = "/".join(sorted(seen)[0])
            raise ConfigError(
                f"measure: {len(seen)} of {len(persons)} validation subjects are trained on, first"
                f" {first}; name others, or leave them out of data.subjects"
            )
        rows = np.linspace(0, len(index) - 1, min(config.faces, len(index))).astype(int)
        side = stage.config.normalizer.side
        pixels = [resize_pixels(index.read_pixels(int(row)), side) for row in rows]
        self.originals = torch.stack([to_image(one) for one in pixels])
        table = index.table.iloc[rows]
        self.person = (table["corpus"].astype(str) + "/" + table["subject"].astype(str)).to_numpy()
        self.intensity = index.labels("intensity", UNITS)[rows]
        self.target = to_image(resize_pixels(self.read_target(), side))
        with torch.no_grad():
            self.before = self.read(self.originals)
            self.aim = self.read(self.target[None])

    def warn_of_partial_judges(self) -> None:
        """Log which judges a trained loss asks too: they favour whoever pleases them."""
        chosen, asked = self.config.critics, self.stage.config.critics
        for term, kind in (("id", "identity"), ("exp", "expression")):
            ours, theirs = getattr(chosen, kind, None), getattr(asked, kind)
            if ours is None or theirs is None or term not in self.stage.config.losses.trained:
                continue
            if (ours.source, ours.weights) == (theirs.source, theirs.weights):
                _log.warning(
                    "measure.critics.%s is the network that L_%s asks: it favours a larger"
                    " losses.%s; choose another",
                    kind, term, term,
                )  # fmt: skip

    def choose_faces(self) -> tuple[ShardIndex, list[Person]]:
        """The validation subjects' samples."""
        config = self.config
        if config.shards is None:
            index = ShardIndex.open(self.stage.config.data.shards)
        else:
            index = ShardIndex.open(config.shards)
        if (config.subjects is None) == (config.folds is None):
            if config.subjects is not None or config.shards is None:
                raise ConfigError("measure: set exactly one of subjects and folds")
            return index, index.persons
        if config.subjects is not None:
            persons = [parse_person(one) for one in config.subjects]
        else:
            assert config.folds is not None
            share = config.validation_share
            folds = (
                make_folds(index.persons, validation_share=share)
                if config.folds == "drawn"
                else load_folds(config.folds, index.persons, validation_share=share)
            )
            by_name = {fold.name: fold for fold in folds}
            if config.fold not in by_name:
                raise ConfigError(
                    f"measure.fold: found '{config.fold}'; there are: {', '.join(by_name)}"
                )
            fold = by_name[config.fold]
            if leak := sorted(self.stage.persons & set(fold.test)):
                raise ConfigError(
                    f"measure.fold: {len(leak)} test subjects of {fold.name} are trained on, first"
                    f" {'/'.join(leak[0])}; leave them out of data.subjects"
                )
            persons = fold.validation
        return index.select(subjects=persons), persons

    def read_target(self) -> np.ndarray:
        """Pixels of the target picture."""
        pool = self.stage.pool or self.stage.index
        if self.config.target is None:
            return pool.read_pixels(0)
        index = self.stage.index
        return index.read_pixels(index.row_of(self.config.target))

    def read(self, images: torch.Tensor) -> dict[str, np.ndarray]:
        """Features of images (N, 3, S, S) by the judges."""
        parts = [
            read_features(self.critics, part.to(self.stage.backend.device), list(self.critics))
            for part in images.split(BATCH)
        ]
        return {
            kind: torch.cat([part[kind] for part in parts]).float().cpu().numpy()
            for kind in ("identity", "expression")
        }

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """The measures of the generator as it is now; the same on all ranks."""
        model, device = self.stage.average.model, self.stage.backend.device
        target = self.target[None].to(device)
        faces = torch.cat(
            [
                model(part.to(device), target.expand(len(part), -1, -1, -1)).float().cpu()
                for part in self.originals.split(BATCH)
            ]
        )
        found = compare(self.before, self.read(faces.clamp(-1, 1)), self.aim, self.person)
        if isinstance(self.critics["expression"], FaceReaderCritic):
            known = ~np.isnan(self.intensity).all(axis=0)
            if known.any():
                read = self.read(faces.clamp(-1, 1))["expression"]
                r = intensity_correlation(self.intensity[:, known], read[:, known])
                found["au_r"] = float(r.mean())
        return found


def compare(
    before: dict[str, Any], after: dict[str, Any], aim: dict[str, Any], person: np.ndarray
) -> dict[str, float]:
    """Features of originals, normalized faces and the target => the measures without labels."""
    own = average_persons(before["identity"], person)
    nearer = nearer_to_target(after["identity"], own, aim["identity"][0])
    kept = float(intensity_correlation(before["expression"], after["expression"]).mean())
    both = nearer + max(kept, 0)
    score = 2 * nearer * max(kept, 0) / both if both else 0.0
    return {"score": score, "nearer_to_target": nearer, "expression_kept": kept}


def packaged_judges() -> CriticsConfig:
    """The networks of the synthetic world that no loss asks."""
    judge = {
        kind: CriticChoice(weights=PACKAGED / JUDGE.format(name))
        for kind, name in (("identity", "identity"), ("expression", "reader"))
    }
    return CriticsConfig(**judge)
