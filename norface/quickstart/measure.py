"""What quickstart measures of a normalization, with judges that no loss used."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from norface.data.labels import ACTION_UNITS, DETECTION_UNITS, unit_name
from norface.data.shards import ShardIndex
from norface.evaluation.identity_probe import probe_identity
from norface.evaluation.normalization import (
    average_persons,
    intensity_correlation,
    nearer_to_target,
    region_error,
    spread_cut,
)
from norface.evaluation.target_reader import read_intensity, train_target_reader
from norface.evaluation.unit_readers import load_packaged
from norface.images import make_grid, to_image
from norface.models.face_networks import FaceReader, IdentityNetwork
from norface.synthetic.corpus import draw_parameters, normalized_truth, parameters_of, render_batch
from norface.synthetic.parameters import FaceParameters

UNITS = tuple(ACTION_UNITS)
REPORTED = [UNITS.index(unit) for unit in DETECTION_UNITS["synthetic"]]
"Columns of the units that quickstart reports, among all."


class Faces(NamedTuple):
    """The same samples three times over, in one order."""

    original: np.ndarray
    "uint8 (N, S, S, 3)."
    normalized: np.ndarray
    truth: np.ndarray
    "The true normalized faces."
    landmarks: list[np.ndarray]
    "Of the truths: (68, 2) each, 0..1."
    intensity: np.ndarray
    "float32 (N, 17), 0..5."
    person: np.ndarray
    "Name of each sample's person (N)."


def read_faces(originals: ShardIndex, normalized: ShardIndex, truth: ShardIndex) -> Faces:
    """All pictures of a set beside its source and its truth. Raises CorpusError for a lost key."""
    keys = list(originals.table["key"])

    def read(index: ShardIndex) -> np.ndarray:
        return np.stack([index.read_pixels(int(row)) for row in index.rows_of(keys)])

    records = [truth.read_record(int(row)) for row in truth.rows_of(keys)]
    return Faces(
        original=read(originals),
        normalized=read(normalized),
        truth=read(truth),
        landmarks=[np.array(record.landmarks) for record in records],
        intensity=originals.labels("intensity", UNITS),
        person=originals.table["subject"].to_numpy(str),
    )


@torch.no_grad()
def run_batches(network: torch.nn.Module, pixels: np.ndarray, batch: int = 128) -> list:
    """What a network answers to uint8 (N, S, S, 3), a batch at a time."""
    starts = range(0, len(pixels), batch)
    return [network(to_image(pixels[start : start + batch])) for start in starts]


def embed(network: IdentityNetwork, pixels: np.ndarray) -> np.ndarray:
    """uint8 (N, S, S, 3) => unit-length identity embeddings (N, D)."""
    return torch.cat(run_batches(network, pixels)).numpy()


def read_yaw(network: FaceReader, pixels: np.ndarray) -> np.ndarray:
    """uint8 (N, S, S, 3) => yaw (N), degrees."""
    return 30 * torch.cat([one["pose"][:, 0] for one in run_batches(network, pixels)]).numpy()


def measure_looks(faces: Faces, target: np.ndarray) -> dict[str, float]:
    """{"nearer_to_target", "yaw_spread_cut", "source_rank1", "source_rank1_originals",
    "chance_rank1"}, by judges that no loss used; target (S, S, 3).

    source_rank1: how often a probe names the person behind a normalized picture
    (norface.evaluation.identity_probe), beside the same of the originals and of guessing.
    """
    identity, reader = (
        load_packaged("judge-identity.safetensors"),
        load_packaged("judge-reader.safetensors"),
    )
    assert isinstance(identity, IdentityNetwork) and isinstance(reader, FaceReader)
    before, after = embed(identity, faces.original), embed(identity, faces.normalized)
    own = average_persons(before, faces.person)
    probe = probe_identity(after, faces.person)
    return {
        "nearer_to_target": nearer_to_target(after, own, embed(identity, target[None])[0]),
        "yaw_spread_cut": spread_cut(
            read_yaw(reader, faces.original), read_yaw(reader, faces.normalized)
        ),
        "source_rank1": float(np.nanmean(probe.rank1)),
        "source_rank1_originals": float(np.nanmean(probe_identity(before, faces.person).rank1)),
        "chance_rank1": probe.chance,
    }


def measure_expression(
    faces: Faces, target: FaceParameters, *, renders: int, seed: int
) -> dict[str, float]:
    """{"au_r", "au_r_truth", "au_r/AU12", ...}: true intensity against what a reader of the target
    alone sees in the normalized and in the true faces."""
    # Expressions of the critics' pool: none that a fold shows.
    drawn = [draw_parameters("critics", number, 0, seed + 1) for number in range(renders)]
    shown = [normalized_truth(one, target) for one in drawn]
    intensity = np.array(
        [[one.intensity.get(unit, 0.0) for unit in UNITS] for one in drawn], np.float32
    )
    side = faces.truth.shape[1]
    reader = train_target_reader(render_batch(shown, side), intensity, seed=seed)
    found = {}
    for name, pixels in (("au_r", faces.normalized), ("au_r_truth", faces.truth)):
        r = intensity_correlation(faces.intensity, read_intensity(reader, pixels))[REPORTED]
        found[name] = float(r.mean())
        if name == "au_r":
            units = zip(REPORTED, r, strict=True)
            each = {f"au_r/{unit_name(UNITS[column])}": float(value) for column, value in units}
    return found | each


def measure_error(faces: Faces, target: np.ndarray) -> float:
    """sum |normalized - truth| / sum |target - truth| over mouth and brows of all pictures.

    target (S, S, 3): the picture that was aimed at. 0 = the true faces, 1 = the bare target.
    """
    ours = theirs = 0.0
    for normalized, truth, landmarks in zip(
        faces.normalized, faces.truth, faces.landmarks, strict=True
    ):
        ours += region_error(normalized, truth, landmarks)
        theirs += region_error(target, truth, landmarks)
    return ours / theirs


def measure_oddness(shown: FaceParameters) -> float:
    """|yaw| + |pitch| + |roll| + |azimuth of the light| / 4, degrees: little for a good target."""
    return sum(map(abs, shown.pose)) + abs(shown.light.azimuth) / 4


def choose_person(
    first: int, count: int, *, seed: int, clip_frames: int, frames: int = 100, side: int = 64
) -> int:
    """Number, within F_nor's pool, of the person who becomes the target, among `count` from number
    `first` on.

    Of the half whose clips begin with the least oddness, the one in whose first `frames` frames the
    packaged reader sees most action, by the mean spread of its intensities: what it hardly sees on
    the target, F_nor would draw too strongly.
    """
    draw = lambda number, frame: draw_parameters("normalizer", number, frame, seed, clip_frames)
    numbers = range(first, first + count)
    frontal = sorted(numbers, key=lambda number: measure_oddness(draw(number, 0)))
    frontal = frontal[: (count + 1) // 2]
    if len(frontal) == 1:
        return frontal[0]
    reader = load_packaged("reader.safetensors")
    spread = {}
    for number in frontal:
        shown = [draw(number, frame) for frame in range(min(frames, clip_frames))]
        answers = run_batches(reader, render_batch(shown, side))
        seen = torch.cat([answer["intensity"] for answer in answers])
        spread[number] = float(seen[:, REPORTED].std(dim=0).mean())
    return max(spread, key=spread.__getitem__)


def target_parameters(index: ShardIndex, key: str) -> FaceParameters:
    """What the target picture was rendered from."""
    return parameters_of(index.read_record(index.row_of(key)))


def measure_normalization(
    originals: ShardIndex,
    normalized: ShardIndex,
    truth: ShardIndex,
    people: ShardIndex,
    key: str,
    *,
    renders: int,
    seed: int,
) -> tuple[dict[str, float], Faces]:
    """All figures of a normalized set, and its faces; `key` is the target's, among `people`.

    Raises CorpusError where a set lacks a key.
    """
    faces = read_faces(originals, normalized, truth)
    target = people.read_pixels(people.row_of(key))
    figures = measure_looks(faces, target)
    figures |= measure_expression(faces, target_parameters(people, key), renders=renders, seed=seed)
    figures["error_ratio"] = measure_error(faces, target)
    return {name: round(value, 4) for name, value in figures.items()}, faces


def draw_faces(faces: Faces, count: int = 12) -> np.ndarray:
    """A grid to look at, uint8: original, normalized and true face of `count` samples."""
    some = np.linspace(0, len(faces.original) - 1, count).astype(int)
    return make_grid([column[some] for column in (faces.original, faces.normalized, faces.truth)])
