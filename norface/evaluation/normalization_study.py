"""How good are normalizations? Figures of sets with intervals, and paired tests between them.

    result = measure_sets(NormalizationConfig(shards="shards/folds", sets={"ours": folder}))
    result["sets"]["ours"]["nearer_to_target"]      # {"value", "low", "high"}
    result["tests"]                                 # paired t-tests between two sets

Persons are the units everywhere: they are drawn for the intervals, and the tests pair their means.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from norface.config import Config
from norface.critics.base import CriticChoice, CriticsConfig, build_critics
from norface.critics.face_reader import BROW_UNITS
from norface.data.folds import find_same_people
from norface.data.normalized import TRUTH
from norface.data.shards import ShardIndex
from norface.errors import ConfigError
from norface.evaluation import resampling as draw
from norface.evaluation.identity_probe import probe_identity
from norface.evaluation.normalization import average_persons
from norface.evaluation.normalization_faces import (
    Judges,
    NormalizedFaces,
    Seen,
    look,
    look_at,
    open_sets,
    sample_rows,
    truth_errors,
)
from norface.evaluation.paired_tests import compare_pairs
from norface.evaluation.unit_readers import SYNTHETIC, ReaderName, choose_reader, load_packaged
from norface.models.face_networks import IdentityNetwork

ORIGINALS = "originals"
"The column of the pictures before normalization."
FRECHET_DRAWS = 200
"Fewer than elsewhere: each is a matrix root."


class NormalizationConfig(Config):
    """Settings of `norface evaluate normalization`."""

    shards: Path
    "Shards of the original faces."
    sets: dict[str, Path] = Field(min_length=1)
    "Name => normalized set of these shards: a folder with set.json."
    targets: dict[str, Path] = {}
    "Name => aligned picture of the target, for sets without target.png (released ones)."
    truth: Path | None = None
    "Set of the true normalized faces (synthetic)."
    samples: int | None = Field(2000, gt=0)
    "Originals that are looked at, evenly from all persons; null = all."
    reader: ReaderName = "auto"
    "Who reads action units and pose; auto = packaged for synthetic faces, else MediaPipe."
    identity: CriticChoice | None = None
    "Who tells persons apart; null = the packaged judge for synthetic faces, else nobody."
    expression: CriticChoice | None = None
    "Whose embedding says how far expressions are apart; null = what the reader reads."
    features: CriticChoice | None = None
    """Network of FID, as a critic of kind perceptual (source vgg); null = the packaged identity
    judge for synthetic faces, else no FID."""
    draws: int = Field(2000, gt=0)
    "Draws of persons for the intervals."
    seed: int = Field(0, ge=0)
    "Of the draws."


def measure_sets(config: NormalizationConfig) -> dict[str, Any]:
    """All figures.

    {"sets": {name: {figure: interval}}, "tests": [...], "judges": {...}, "persons", "faces",
    "chance_rank1", "notes": [text]}; "originals" is among the sets, with what can be said of them.
    Raises ConfigError, CorpusError, WeightsError.
    """
    index = ShardIndex.open(config.shards)
    if odd := sorted(set(config.targets) - set(config.sets)):
        raise ConfigError(f"targets.{odd[0]}: there is no set of that name in `sets`")
    for name in {ORIGINALS, TRUTH} & set(config.sets):
        raise ConfigError(
            f"sets.{name}: '{name}' is a column of its own; give the set another name"
        )
    rows = sample_rows(index, config.samples)
    keys = [index.key_of(int(row)) for row in rows]
    faces = open_sets(index, config.sets, config.targets, keys)
    given = {} if config.truth is None else {TRUTH: config.truth}
    truth = next(iter(open_sets(index, given, {}, keys)), None)
    judges, about, notes = choose_judges(config, {corpus for corpus, _ in index.persons})
    study = Study(config, index, rows, judges, faces, truth)
    found, samples = study.measure()
    return {
        "sets": {
            name: {figure: interval.as_dict() for figure, interval in values.items()}
            for name, values in found.items()
        },
        "tests": compare_pairs(samples, study.person, list(config.sets)),
        "judges": about,
        "persons": study.persons,
        "faces": len(rows),
        "chance_rank1": study.chance,
        "notes": notes + study.notes,
    }


def choose_judges(
    config: NormalizationConfig, corpora: set[str]
) -> tuple[Judges, dict[str, str], list[str]]:
    """The judges, their names by what they judge, and what is left out and why."""
    reader = choose_reader(config.reader, corpora)
    about, notes = {"reader": reader.name}, []
    packaged = load_packaged("judge-identity.safetensors") if corpora == {SYNTHETIC} else None
    assert packaged is None or isinstance(packaged, IdentityNetwork)
    parts: dict[str, Any] = {"identity": packaged, "features": packaged and packaged.trunk}
    kinds = {"identity": "identity", "features": "perceptual", "expression": "expression"}
    for name, kind in kinds.items():
        choice = getattr(config, name)
        if choice is not None:
            critic = build_critics(CriticsConfig(**{kind: choice}))[kind]
            parts[name], about[name] = critic, critic.card.name
        elif parts.get(name) is not None:
            about[name] = "packaged identity judge of synthetic faces"
    if parts["identity"] is None:
        notes.append(
            "identity: no network of persons (the probe of the source person reads coarse grey"
            " pictures instead); set identity.source=arcface identity.weights=FILE"
        )
    if parts["features"] is None:
        notes.append(
            "FID: no feature network; set features.source=vgg features.weights=FILE to have it"
        )
    return Judges(reader, **parts), about, notes


@dataclasses.dataclass
class Study:
    """One measurement of all sets on the same faces."""

    config: NormalizationConfig
    index: ShardIndex
    rows: np.ndarray
    judges: Judges
    faces: list[NormalizedFaces]
    truth: NormalizedFaces | None

    def __post_init__(self) -> None:
        table = self.index.table.iloc[self.rows]
        names = (table["corpus"].astype(str) + "/" + table["subject"].astype(str)).to_numpy()
        persons, self.person = np.unique(names, return_inverse=True)
        self.persons = len(persons)
        self.counts = draw.draw_counts(self.persons, draws=self.config.draws, seed=self.config.seed)
        self.notes: list[str] = []
        self.chance = float("nan")

    @property
    def has_blendshapes(self) -> bool:
        """Whether `expression` is what the reader's blendshapes say."""
        return bool(self.judges.reader.blendshapes) and self.judges.expression is None

    def measure(self) -> tuple[dict[str, dict[str, draw.Interval]], dict[str, dict[str, Any]]]:
        """Figures of every set, and what they are made of: a number a face."""
        originals = look(self.index, self.rows, self.judges, ORIGINALS)
        found, samples = {ORIGINALS: self.measure_originals(originals)}, {}
        for faces in self.faces + ([self.truth] if self.truth else []):
            seen = look(faces.index, faces.rows, self.judges, faces.name)
            target = look_at(faces.target[None], self.judges)
            found[faces.name], samples[faces.name] = self.measure_set(
                originals, seen, target, faces
            )
            self.note_leak(faces)
        return found, samples

    def mean(self, values: np.ndarray) -> draw.Interval:
        """Mean of a number a face."""
        return self.figure(draw.mean_terms(values), draw.ratio)

    def figure(self, terms: np.ndarray, value: draw.Value) -> draw.Interval:
        """A figure of terms a face."""
        return draw.bootstrap_sums(draw.sum_by_person(terms, self.person), value, self.counts)

    def measure_originals(self, seen: Seen) -> dict[str, draw.Interval]:
        """What can be said of the pictures before: how well persons and labels are read there."""
        probe = self.probe(seen)
        self.chance = probe["chance"]
        figures = {name: self.mean(probe[name]) for name in ("source_rank1", "source_auc")}
        return figures | self.against_labels(seen)

    def probe(self, seen: Seen) -> dict[str, Any]:
        """The source person's probe."""
        features = seen.coarse if seen.identity is None else seen.identity
        rank1, auc, chance = probe_identity(features, self.person)
        return {"source_rank1": rank1, "source_auc": auc, "chance": chance}

    def against_labels(self, seen: Seen) -> dict[str, draw.Interval]:
        """{"label_r", "brow_r"}: labelled intensities against read ones, mean over units that vary,
        and over those of them that move the brows."""
        units = self.judges.reader.units
        truth = self.index.labels("intensity", units)[self.rows]
        varies = np.array([np.nanstd(column) > 0.1 if (~np.isnan(column)).any() else False
                          for column in truth.T])  # fmt: skip
        figures = {}
        for name, chosen in (("label_r", varies), ("brow_r", varies & np.isin(units, BROW_UNITS))):
            if chosen.any():
                terms = draw.pearson_terms(truth[:, chosen], seen.reading.intensity[:, chosen])
                figures[name] = self.figure(terms, draw.mean_pearson)
        return figures

    def measure_set(
        self, before: Seen, after: Seen, target: Seen, faces: NormalizedFaces
    ) -> tuple[dict[str, draw.Interval], dict[str, np.ndarray]]:
        """Figures of one set, and their samples for paired tests."""
        each: dict[str, np.ndarray] = {}
        if after.identity is not None:
            assert before.identity is not None and target.identity is not None
            own = average_persons(before.identity, self.person)
            each["target_similarity"] = after.identity @ target.identity[0]
            each["source_similarity"] = (after.identity * own).sum(axis=1)
            nearer = each["target_similarity"] > each["source_similarity"]
            each["nearer_to_target"] = nearer.astype(float)
        probe = self.probe(after)
        each |= {name: probe[name] for name in ("source_rank1", "source_auc")}
        figures = {name: self.mean(values) for name, values in each.items()}
        figures |= self.against_originals(before, after, target, each)
        figures |= self.against_labels(after)
        if self.truth is not None and faces is not self.truth:
            ours, bare = truth_errors(faces, self.truth, faces.name)
            each["error_ratio"] = ours / max(bare.mean(), 1e-9)
            figures["error_ratio"] = self.figure(np.stack([ours, bare], axis=1), draw.ratio)
        if after.features is not None and before.features is not None:
            figures["fid"] = self.distance(before.features, after.features)
        return figures, each

    def against_originals(
        self, before: Seen, after: Seen, target: Seen, each: dict[str, np.ndarray]
    ) -> dict[str, draw.Interval]:
        """Expression that was kept; spread of pose and of the border that was taken away."""
        read, now = before.reading, after.reading
        figures = {}
        for name, first, second in (
            ("unit_r", read.intensity, now.intensity),
            ("blendshape_r", read.expression, now.expression),
        ):
            varies = first.std(axis=0) > 0.02 * np.ptp(first)
            if name == "blendshape_r" and not self.has_blendshapes:
                continue
            if varies.any():
                terms = draw.pearson_terms(first[:, varies], second[:, varies])
                figures[name] = self.figure(terms, draw.mean_pearson)
        apart = np.linalg.norm(now.expression - read.expression, axis=1)
        bare = np.linalg.norm(target.reading.expression - read.expression, axis=1)
        each["expression_distance"] = apart / max(bare.mean(), 1e-9)
        figures["expression_distance"] = self.figure(np.stack([apart, bare], 1), draw.ratio)
        for name, column in (("yaw", 0), ("pitch", 1)):
            terms = draw.spread_terms(read.pose[:, [column]], now.pose[:, [column]])
            figures[f"{name}_spread_cut"] = self.figure(terms, draw.spread_cut)
        each["yaw_off_target"] = np.abs(now.pose[:, 0] - target.reading.pose[0, 0])
        figures["background_spread_cut"] = self.figure(
            draw.spread_terms(before.border, after.border), draw.spread_cut
        )
        each["background_off_target"] = np.abs(after.border - target.border).mean(axis=1)
        return figures

    def distance(self, before: np.ndarray, after: np.ndarray) -> draw.Interval:
        """FID between the originals' and the set's features."""
        if len(before) < 2 * before.shape[1]:
            note = f"FID: {len(before)} faces for {before.shape[1]} features; it is much too high"
            if note not in self.notes:
                self.notes.append(note)
        return draw.bootstrap_frechet(before, after, self.person, self.counts[:FRECHET_DRAWS])

    def note_leak(self, faces: NormalizedFaces) -> None:
        """Say whom of these people the generator was trained on."""
        trained = faces.card.trained_on or []
        if faces.card.trained_on is None:
            self.notes.append(f"{faces.name}: nobody knows on whom its generator was trained")
        here = self.index.persons
        same = {person for _, person in find_same_people(trained, here)} | (
            set(trained) & set(here)
        )
        if same:
            self.notes.append(
                f"{faces.name}: its generator was trained on {len(same)} of these {len(here)}"
                f" persons, first {'/'.join(min(same))}"
            )
