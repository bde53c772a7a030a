"""What the pictures of the embedded corpus show: pools of persons, and draws keyed by numbers.

Three pools of persons, of reserved and disjoint seeds, keep the critics, F_nor and the folds from
ever meeting the same person.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from norface.data.labels import ACTION_UNITS
from norface.errors import CorpusError
from norface.synthetic.emotions import ONE_SIDED, draw_combination, draw_emotion
from norface.synthetic.parameters import Camera, FaceParameters, Light

CORPUS = "synthetic"
POOLS: dict[str, range] = {
    "critics": range(0, 100_000),
    "normalizer": range(100_000, 200_000),
    "folds": range(200_000, 300_000),
}
"Pool => identity seeds that no other pool may use."

_ACTIVE = tuple(ACTION_UNITS)
BLINKS = 0.02
"Share of pictures with closed eyes, of those that show some action but no raised lid."
_EMOTIONS = ("happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")


def check_pools(pools: dict[str, range]) -> None:
    """Raises CorpusError when two pools share an identity."""
    names = sorted(pools, key=lambda name: pools[name].start)
    for first, second in zip(names, names[1:], strict=False):
        if pools[first].stop > pools[second].start:
            raise CorpusError(
                f"pools '{first}' and '{second}' share identity seeds from {pools[second].start}; "
                "give each its own range"
            )


def identity_seed(pool: str, subject_number: int) -> int:
    """Seed of a pool's subject, counted from 0. Raises CorpusError outside the pool."""
    check_pools(POOLS)
    if pool not in POOLS:
        raise CorpusError(f"unknown pool '{pool}'; there are: {', '.join(POOLS)}")
    seeds = POOLS[pool]
    if not 0 <= subject_number < len(seeds):
        raise CorpusError(
            f"subject {subject_number} is outside pool '{pool}'; it has subjects 0..{len(seeds) - 1}"
        )
    return seeds[subject_number]


def subject_name(seed: int) -> str:
    """Name of a person in records. It holds the seed, so no two pools share a name."""
    return f"S{seed:06d}"


def find_subject(name: str) -> tuple[str, int]:
    """(pool, subject number) of a subject's name. Raises CorpusError for a name of no pool."""
    if name[:1] == "S" and name[1:].isdigit():
        for pool, seeds in POOLS.items():
            if int(name[1:]) in seeds:
                return pool, int(name[1:]) - seeds.start
    raise CorpusError(f"subject '{name}' is not of the embedded corpus (S000000..S299999)")


@dataclasses.dataclass(frozen=True)
class Frame:
    """A drawn picture and its name for the feeling shown, None for a combination without one."""

    parameters: FaceParameters
    emotion: str | None


def _draw_action(rng: np.random.Generator) -> tuple[dict[int, float], str | None]:
    kind = rng.random()
    if kind < 0.10:
        return {}, "neutral"
    if kind < 0.45:
        emotion = _EMOTIONS[rng.integers(len(_EMOTIONS))]
        return draw_emotion(rng, emotion), emotion
    return draw_combination(rng, _ACTIVE), None


def _draw_light(rng: np.random.Generator) -> Light:
    return Light(
        azimuth=float(rng.uniform(-65, 65)),
        elevation=float(rng.uniform(-5, 60)),
        strength=float(rng.uniform(0.35, 1.0)),
        ambient=float(rng.uniform(0.28, 0.6)),
        warmth=float(np.clip(rng.normal(0, 0.5), -1, 1)),
    )


def _draw_camera(rng: np.random.Generator) -> Camera:
    return Camera(
        distance=float(np.exp(rng.uniform(np.log(6), np.log(25)))),
        shift_x=float(rng.uniform(-0.02, 0.02)),
        shift_y=float(rng.uniform(-0.02, 0.02)),
        scale=float(rng.uniform(0.96, 1.04)),
        roll=float(rng.uniform(-4, 4)),
        blur=float(max(rng.uniform(-0.003, 0.004), 0)),
        noise=float(rng.uniform(0, 0.02)),
    )


def draw_frame(
    pool: str, subject_number: int, frame_number: int, seed: int = 0, clip_frames: int = 0
) -> Frame:
    """One picture of a subject. Raises CorpusError for an unknown pool or a subject outside it.

    With `clip_frames` every so many frames are one clip, as of a person who was asked to show
    expressions before a camera: one place, light and camera, a head that hardly moves, and the
    first frame at rest. 0 = every frame is a photograph of its own.
    """
    identity = identity_seed(pool, subject_number)
    if frame_number < 0:
        raise CorpusError(f"frame {frame_number} is negative")
    if clip_frames:
        return _draw_clip_frame(pool, subject_number, frame_number, seed, clip_frames)
    rng = np.random.default_rng([0xF4, seed, identity, frame_number])
    intensity, emotion = _draw_action(rng)
    slant = rng.normal(0, 0.07, len(_ACTIVE)).clip(-0.2, 0.2)
    slant += np.sign(rng.normal()) * ONE_SIDED.get(emotion or "", 0.0) * rng.random()
    slant = slant.clip(-0.3, 0.3)
    pose = rng.normal(0, [15, 8, 4]).clip([-35, -20, -10], [35, 20, 10])
    parameters = FaceParameters(
        identity_seed=identity,
        intensity=intensity,
        asymmetry={
            unit: round(float(slant[i]), 3) for i, unit in enumerate(_ACTIVE) if unit in intensity
        },
        pose=(float(pose[0]), float(pose[1]), float(pose[2])),
        gaze=(float(rng.normal(0, 0.09)), float(rng.normal(0, 0.05))),
        light=_draw_light(rng),
        camera=_draw_camera(rng),
        background_seed=int(rng.integers(2**31)),
        closed=float(bool(intensity) and 5 not in intensity and rng.random() < BLINKS),
    )
    return Frame(parameters, emotion)


_CLIP_MOVES = (1.0, 0.7, 0.5)
"Standard deviation of yaw, pitch and roll within a clip, degrees."


def _draw_clip_frame(
    pool: str, subject_number: int, frame_number: int, seed: int, clip_frames: int
) -> Frame:
    """The action of the frame of this number, before the place of its clip."""
    clip, place = divmod(frame_number, clip_frames)
    frame = draw_frame(pool, subject_number, frame_number, seed)
    identity = frame.parameters.identity_seed
    shot = draw_frame(pool, subject_number, clip, seed=_CLIP_SEED + seed).parameters
    moves = np.random.default_rng([0xF5, seed, identity, frame_number]).normal(0, _CLIP_MOVES)
    yaw, pitch, roll = (_CLIP_TURN * np.array(shot.pose) + moves).tolist()
    parameters = dataclasses.replace(
        frame.parameters,
        pose=(yaw, pitch, roll),
        light=dataclasses.replace(shot.light, azimuth=_CLIP_TURN * shot.light.azimuth),
        camera=shot.camera,
        background_seed=shot.background_seed,
    )
    if place:
        return Frame(parameters, frame.emotion)
    return Frame(dataclasses.replace(parameters, intensity={}, asymmetry={}, closed=0.0), "neutral")


_CLIP_TURN = 0.3
"Head and light of a clip are turned so much less than in photographs: who poses looks ahead."

_CLIP_SEED = 2**32
"Added to the seed for what a clip's frames share: no photograph shows it by chance."


def draw_parameters(
    pool: str, subject_number: int, frame_number: int, seed: int = 0, clip_frames: int = 0
) -> FaceParameters:
    """What `draw_frame` draws, without the emotion's name."""
    return draw_frame(pool, subject_number, frame_number, seed, clip_frames).parameters


def normalized_truth(parameters: FaceParameters, target: FaceParameters) -> FaceParameters:
    """The true normalized face: the target's picture in all, but doing what `parameters` does.

    The action is the same to the last digit, its inequality of left and right too; the resting face
    is the target's, since it belongs to the person.
    """
    return dataclasses.replace(
        target,
        intensity=parameters.intensity,
        asymmetry=parameters.asymmetry,
        closed=parameters.closed,
    )
