"""Which face can be a target: at rest, straight, well lit.

A target that is labelled as having no action unit and still raises its brows confuses all faces
normalized onto it (Fig. 4 of the paper), so a target is looked at before it is used:

    index, reader = ShardIndex.open("shards/bp4d"), choose_reader("auto", {"bp4d"})
    active_units(pixels, reader)            # {1: 2.6}: unit => intensity, 2 or more
    check_row(index, "bp4d_F001_T1_12")     # raises CorpusError with what is seen
    check_file("anna.png", pixels, {"bp4d"})
    choose_candidates(index, count=10, reader=reader)
    choose_in_clip(clip)                    # of one synthetic clip: the face at rest, usual pose

Labels count where a shard has them; of photographs the reader is asked too, of synthetic faces the
labels are exact. Age, gender and ethnicity, which the paper's ten differ in, no reader tells:
choose among more candidates by eye.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from norface.data.detection import FaceDetector, choose_detector
from norface.data.labels import ACTION_UNITS, EMOTIONS, PRESENT_FROM, unit_name
from norface.data.shards import ShardIndex
from norface.errors import CorpusError, WeightsError
from norface.evaluation.unit_readers import SYNTHETIC, UnitReader, choose_reader
from norface.images import read_photo, resize_pixels
from norface.progress import track

TRACE = 1.0
"A candidate has every labelled intensity below; a target's must be below PRESENT_FROM."
LOOKED_AT = 8
"Pictures of a person that are looked at for `choose_candidates`, spread over those at rest."
DETECTED_SIDE = 256
"Smaller pictures are enlarged to this before a face is looked for."
_ADVICE = (
    "choose a face at rest (`norface targets choose` finds some), or take it as it is with"
    " check_target=false (norface analyze: --any-target)"
)
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A picture that could be a target."""

    key: str
    pose: tuple[float, float, float]
    "Yaw, pitch, roll in degrees, as read."
    strongest: float
    "Intensity of the strongest action unit that is read, 0..5."
    brightness: float
    "Mean of the middle of the face, 0..1."
    unevenness: float
    "Difference between its left and right half over their sum, 0..1."

    @property
    def oddness(self) -> float:
        """|yaw| + |pitch| + |roll| + 5 strongest + 100 unevenness + 100 |brightness beyond
        0.3..0.7|: the lower, the better a target."""
        dark = max(0.3 - self.brightness, self.brightness - 0.7, 0)
        pose = sum(map(abs, self.pose))
        return pose + 5 * self.strongest + 100 * (self.unevenness + dark)


def active_units(
    pixels: np.ndarray, reader: UnitReader, *, least: float = PRESENT_FROM
) -> dict[int, float]:
    """Aligned picture (S, S, 3) => units that are read at `least` or more, strongest first."""
    found = zip(reader.units, reader.read(pixels[None]).intensity[0].tolist(), strict=True)
    active = {unit: round(value, 2) for unit, value in found if value >= least}
    return dict(sorted(active.items(), key=lambda pair: -pair[1]))


def labelled_units(index: ShardIndex, row: int) -> dict[int, float] | None:
    """Units that the labels of a row call active, None where no unit is labelled.

    A unit that is present without an intensity counts as 2; an emotion other than neutral, where
    no unit is labelled, as one unknown unit 0.
    """
    one = index.select(where=np.arange(len(index)) == row)
    units = tuple(ACTION_UNITS)
    intensity, presence = one.labels("intensity", units)[0], one.labels("au", units)[0]
    if np.isnan(intensity).all() and np.isnan(presence).all():
        emotion = int(one.emotions()[0])
        return (
            None if emotion < 0 else ({0: PRESENT_FROM} if EMOTIONS[emotion] != "neutral" else {})
        )
    level = np.where(np.isnan(intensity), PRESENT_FROM * presence, intensity)
    return {
        unit: float(value)
        for unit, value in zip(units, level, strict=True)
        if not np.isnan(value) and value >= PRESENT_FROM
    }


def find_active(index: ShardIndex) -> np.ndarray:
    """bool (N): rows that their labels call active, all at once; see `labelled_units`."""
    units = tuple(ACTION_UNITS)
    intensity, presence = index.labels("intensity", units), index.labels("au", units)
    level = np.where(np.isnan(intensity), PRESENT_FROM * presence, intensity)
    active = (np.nan_to_num(level) >= PRESENT_FROM).any(axis=1)
    return active | (np.isnan(level).all(axis=1) & (index.emotions() > 0))


def leave_out_active(index: ShardIndex, name: str) -> ShardIndex:
    """The faces that no label calls active; a warning that begins with `name` says who is left out.

    Raises CorpusError where nobody is left.
    """
    active = find_active(index)
    if not active.any():
        return index
    first = int(np.flatnonzero(active)[0])
    units = _list(labelled_units(index, first) or {0: PRESENT_FROM})
    told = f"the first being {index.key_of(first)}, labelled {units}"
    if active.all():
        raise CorpusError(f"{name}: all {len(index)} faces are no targets, {told}; {_ADVICE}")
    _log.warning(
        "%s: %d of %d faces are left out, they are not at rest, %s",
        name, active.sum(), len(index), told,
    )  # fmt: skip
    return index.select(where=~active)


def check_target(
    pixels: np.ndarray,
    name: str,
    *,
    reader: UnitReader | None,
    detector: FaceDetector | None = None,
    labelled: Mapping[int, float] | None = None,
) -> None:
    """Raise CorpusError where an aligned picture (S, S, 3) is no target; see `find_fault`."""
    fault = find_fault(pixels, reader=reader, detector=detector, labelled=labelled)
    if fault is not None:
        raise CorpusError(f"{name}: is no target, {fault}; {_ADVICE}")


def find_fault(
    pixels: np.ndarray,
    *,
    reader: UnitReader | None,
    detector: FaceDetector | None = None,
    labelled: Mapping[int, float] | None = None,
) -> str | None:
    """Why an aligned picture (S, S, 3) is no target, a clause; None where it is one.

    Without `reader` or `detector` that part is not looked at. `labelled`: see `labelled_units`.
    """
    if labelled:
        return f"it is labelled {_list(labelled)}"
    if detector is not None:
        shown = resize_pixels(pixels, max(DETECTED_SIDE, len(pixels)))
        if not detector.find_faces(shown):
            return "no face is found in it"
    if reader is not None and (active := active_units(pixels, reader)):
        return f"{reader.name} sees {_list(active)}"
    return None


def _list(units: Mapping[int, float]) -> str:
    if 0 in units:
        return "as an emotion that is not neutral"
    return ", ".join(f"{unit_name(unit)} at {value:.1f}" for unit, value in units.items())


def check_row(index: ShardIndex, key: str) -> None:
    """`check_target` of a picture of shards: its labels, and of a photograph what is read too."""
    fault = find_row_fault(index, key, lambda corpus: find_reader(corpus, key))
    if fault is not None:
        raise CorpusError(f"{key}: is no target, {fault}; {_ADVICE}")


def find_row_fault(
    index: ShardIndex, key: str, choose: Callable[[str], UnitReader | None], *, exact: bool = True
) -> str | None:
    """`find_fault` of a picture of shards. `choose` gives the reader of a corpus's faces.

    `exact`: labels of synthetic faces are the truth, and nothing is read beside them.
    """
    row = index.row_of(key)
    labelled, corpus = labelled_units(index, row), str(index.table["corpus"].iloc[row])
    known = labelled or (exact and corpus == SYNTHETIC and labelled is not None)
    reader = None if known else choose(corpus)
    return find_fault(index.read_pixels(row), reader=reader, labelled=labelled)


def check_file(path: str | Path, pixels: np.ndarray, corpora: Collection[str]) -> None:
    """`check_target` of a picture file with pixels (S, S, 3), for a generator of these corpora."""
    world = SYNTHETIC if set(corpora) == {SYNTHETIC} else "photographs"
    try:
        detector = choose_detector().load()
    except WeightsError as error:
        _log.warning("%s: whether it shows a face was not looked at: %s", path, error)
        detector = None
    check_target(pixels, str(path), reader=find_reader(world, str(path)), detector=detector)


def read_aligned(path: str | Path) -> np.ndarray:
    """Pixels (S, S, 3) of an aligned picture. Raises CorpusError for one that is not square."""
    pixels = read_photo(path)
    if pixels.shape[0] != pixels.shape[1]:
        raise CorpusError(
            f"{path}: is {pixels.shape[1]}x{pixels.shape[0]}; a target must be aligned and square,"
            " as `norface prepare folder` writes it"
        )
    return pixels


def check_picture(path: str | Path, corpora: Collection[str]) -> None:
    """`check_file` of an aligned picture on disk."""
    check_file(path, read_aligned(path), corpora)


def find_reader(corpus: str, name: str) -> UnitReader | None:
    """The reader of faces of a corpus; None, with a warning about `name`, where there is none."""
    try:
        return choose_reader("auto", {corpus})
    except WeightsError as error:
        _log.warning("%s: whether it is at rest was not looked at: %s", name, error)
        return None


def choose_candidates(
    index: ShardIndex, *, count: int = 10, reader: UnitReader, looked_at: int = LOOKED_AT
) -> list[Candidate]:
    """Up to `count` candidates, one a person, the best first: at rest by labels and reader, then
    straight and evenly lit.

    Of each person `looked_at` pictures without an active label are read. Raises CorpusError where
    nobody is at rest.
    """
    best: dict[str, Candidate] = {}
    rows = resting_rows(index, looked_at)
    for row, person in track(rows, "look", len(rows), unit="face"):
        candidate = judge_candidate(index, row, reader)
        exact = index.table["corpus"].iloc[row] == SYNTHETIC
        if candidate.strongest >= PRESENT_FROM and not exact:
            continue
        if person not in best or candidate.oddness < best[person].oddness:
            best[person] = candidate
    if not best:
        raise CorpusError(
            f"{index.name}: no face at rest among {len(rows)} pictures without an active label;"
            " a target needs one"
        )
    ordered = sorted(best.values(), key=lambda one: (one.oddness, one.key))
    return ordered[:count]


def choose_in_clip(index: ShardIndex) -> str:
    """Key of the picture at rest whose pose is the usual one, in labelled shards of one clip.

    A target that looks another way than its clip would be moved there in every picture. Raises
    CorpusError where no picture is at rest by all its labels.
    """
    resting = np.flatnonzero((index.labels("intensity", tuple(ACTION_UNITS)) == 0).all(axis=1))
    if not len(resting):
        raise CorpusError(f"{index.name}: no picture has all intensities at 0; a target needs one")
    poses = np.array([index.read_record(row).pose for row in range(len(index))])
    away = np.abs(poses - poses.mean(axis=0)).sum(axis=1)
    return index.key_of(int(resting[away[resting].argmin()]))


def resting_rows(index: ShardIndex, most: int) -> list[tuple[int, str]]:
    """(row, person) of up to `most` pictures a person that no label calls active."""
    units = tuple(ACTION_UNITS)
    intensity, presence = index.labels("intensity", units), index.labels("au", units)
    active = (np.nan_to_num(intensity) >= TRACE).any(1) | (np.nan_to_num(presence) > 0).any(1)
    # Where intensities are known, only the weakest expressions of a person are looked at.
    total = np.nan_to_num(intensity).sum(axis=1)
    emotions = index.emotions()
    active |= (emotions > 0) & np.isnan(intensity).all(1) & np.isnan(presence).all(1)
    table = index.table
    persons = (table["corpus"].astype(str) + "/" + table["subject"].astype(str)).to_numpy()
    chosen: list[tuple[int, str]] = []
    for person in np.unique(persons):
        rows = np.flatnonzero((persons == person) & ~active)
        if not len(rows):
            continue
        weakest = rows[total[rows] == total[rows].min()]
        places = np.unique(np.linspace(0, len(weakest) - 1, most).astype(int))
        chosen += [(int(row), str(person)) for row in weakest[places]]
    return chosen


def judge_candidate(index: ShardIndex, row: int, reader: UnitReader) -> Candidate:
    """What is seen of one picture."""
    pixels = index.read_pixels(row)
    seen = reader.read(pixels[None])
    side = len(pixels)
    middle = pixels[side // 4 : side * 7 // 8, side // 5 : side - side // 5].mean(axis=2) / 255
    half = middle.shape[1] // 2
    left, right = float(middle[:, :half].mean()), float(middle[:, -half:].mean())
    yaw, pitch, roll = (round(float(angle), 1) for angle in seen.pose[0])
    return Candidate(
        key=index.key_of(row),
        pose=(yaw, pitch, roll),
        strongest=round(float(seen.intensity[0].max()), 2),
        brightness=round(float(middle.mean()), 3),
        unevenness=round(abs(left - right) / max(left + right, 1e-6), 3),
    )
