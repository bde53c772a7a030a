"""FaceParameters => a picture, as if photographed and aligned.

The resting face (template + the person's shape + hair) is made once a person. A picture adds the
fields of the action units, projects, aligns by data/alignment.py's template, rasterizes with
several samples a pixel, shades each sample, and averages.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence

import cv2
import numpy as np

from norface.data.alignment import alignment_matrix, move_points
from norface.synthetic import action_units, landmarks, shape
from norface.synthetic.accessories import EAR_ROW, Parts, build_parts
from norface.synthetic.background import draw_scene
from norface.synthetic.fields import SPOTS, add_fields
from norface.synthetic.head import (
    COLUMNS,
    EYE_U,
    MOUTH_V,
    POSITIONS,
    ROWS,
    UPPER_ROW,
    gaussian,
    ramp,
)
from norface.synthetic.identity import HAIRLINE_U, Identity, Look, draw_identity
from norface.synthetic.parameters import FaceParameters, Light, RenderedFace
from norface.synthetic.rasterizer import (
    add_reliefs,
    box_downsample,
    grid_normals,
    place_vertices,
    rasterize,
)
from norface.synthetic.shading import GAMMA, shade
from norface.synthetic.textures import NOISE, RELIEF_BOXES, RELIEF_SHAPE, RELIEF_UNITS, RELIEFS

EYE_RADIUS = 0.125
WELL_EXPOSED = 0.25
"Linear light from the skin that the camera's exposure leaves as it is."
_HEAD_VERTICES = ROWS * COLUMNS
_scratch = threading.local()


def _occlusion() -> np.ndarray:
    """(ROWS, COLUMNS): share of the sky's light that reaches each spot of the resting head."""
    a, v = SPOTS.a, SPOTS.v
    dark = 0.30 * gaussian(a, v, at=(0.19, 0.02), size=(0.07, 0.06))
    dark += 0.16 * gaussian(a, v, at=(0.32, 0.085), size=(0.14, 0.03))
    dark += 0.26 * gaussian(a, v, at=(0.0, -0.568), size=(0.11, 0.028))
    dark += 0.28 * gaussian(a, v, at=(0.195, -0.49), size=(0.025, 0.05))
    dark += 0.22 * gaussian(a, v, at=(0.0, -0.862), size=(0.14, 0.025))
    dark += 0.10 * gaussian(a, v, at=(0.275, -0.73), size=(0.03, 0.04))
    dark += 0.5 * ramp(v, -1.1, -1.24)
    dark += 0.25 * ramp(a, 0.95, 1.25) * ramp(v, 0.2, -0.1)
    return (1 - np.clip(dark, 0, 0.75)).astype(np.float32)


def complexion(identity: Identity) -> np.ndarray:
    """(ROWS, COLUMNS, 3): redness, darkness and gloss of the skin where they change slowly."""
    look, (u, v, a) = identity.look, SPOTS[:3]
    red = 0.7 * gaussian(a, v, at=(0.42, -0.34), size=(0.14, 0.12))
    red += 0.5 * gaussian(u, v, at=(0, -0.45), size=(0.1, 0.07))
    red += 0.25 * gaussian(u, v, at=(0, -1.0), size=(0.14, 0.07))
    # Thin skin around the eyes.
    dark = 0.3 * look.eye_bag * gaussian(a, v, at=(EYE_U - 0.03, -0.1), size=(0.113, 0.035))
    dark += 0.14 * gaussian(a, v, at=(0.17, -0.01), size=(0.042, 0.042))
    shine = gaussian(u, v, at=(0, -0.3), size=(0.085, 0.21))
    shine += 0.6 * gaussian(u, v, at=(0, 0.45), size=(0.21, 0.14))
    return np.stack([look.redness * red, dark, look.oil * (0.35 + 0.65 * shine)], -1)


_OCCLUSION = _occlusion()


class _Person:
    """What all pictures of one person share."""

    def __init__(self, seed: int):
        identity = self.identity = draw_identity(seed)
        self.rest = POSITIONS.astype(np.float32)
        add_fields(self.rest, *shape.BASIS, identity.shape)
        spots = [(sign * EYE_U, 0.0, False) for sign in (-1, 1)] + [(0.0, MOUTH_V, False)]
        anchors = landmarks.sample_grid(self.rest, spots).astype(np.float64)
        self.eyes = anchors[:2] - [0, 0, EYE_RADIUS + 0.012]
        self.mouth = anchors[2]
        edge = np.interp(SPOTS.a, HAIRLINE_U, identity.hairline)
        slope = np.gradient(identity.hairline, HAIRLINE_U)
        upright = np.hypot(1, np.interp(SPOTS.a, HAIRLINE_U, slope))
        tuft = 0.02 * np.sin(9 * SPOTS.u + seed) * identity.look.hair_wave
        above = SPOTS.v - edge - identity.parting * SPOTS.u / 0.5 - tuft
        self.hair = (above / upright).astype(np.float32)
        skull = np.abs(self.rest[EAR_ROW, :, 0]).max()
        normals = np.empty_like(self.rest)
        grid_normals(self.rest, UPPER_ROW, normals)
        puff = identity.hair_thickness * ramp(
            self.hair, -0.02, 0.13 + 0.6 * identity.hair_thickness
        )
        # Locks: the curlier, the shorter and the deeper.
        curl = identity.look.hair_curl
        puff *= 1 + 0.16 * curl * np.sin(21 * SPOTS.u + seed) * np.sin((5 + 14 * curl) * SPOTS.v)
        self.rest += (puff[..., None] * normals).astype(np.float32)
        self.parts: Parts = build_parts(identity, self.rest, anchors[:2], skull=float(skull))
        count = _HEAD_VERTICES + len(self.parts.points)
        self.material = np.zeros((count, 7), np.float32)
        self.material[:, 3] = 1
        head = self.material[:_HEAD_VERTICES].reshape(ROWS, COLUMNS, 7)
        head[..., 0], head[..., 1], head[..., 2], head[..., 3] = (
            SPOTS.u,
            SPOTS.v,
            self.hair,
            _OCCLUSION,
        )
        head[..., 4:] = complexion(identity)
        self.material[_HEAD_VERTICES:, :2] = self.parts.material
        self.bodies = np.zeros(count, np.uint8)
        self.bodies[_HEAD_VERTICES:] = self.parts.body

    def buffers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points and normals (V, 3) with those of the stiff parts filled in, and room (V, 15)."""
        count = len(self.bodies)
        points, normals = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
        points[_HEAD_VERTICES:], normals[_HEAD_VERTICES:] = self.parts.points, self.parts.normals
        return points, normals, np.empty((count, 15), np.float32)


@functools.lru_cache(maxsize=512)
def _person(seed: int) -> _Person:
    return _Person(seed)


def total_action(parameters: FaceParameters, identity: Identity) -> np.ndarray:
    """(2, units): the resting face and the action together, as intensities, u < 0 then u > 0."""
    action = np.zeros((2, len(action_units.UNITS)))
    for position, unit in enumerate(action_units.UNITS):
        value = parameters.intensity.get(unit, 0.0)
        slant = parameters.asymmetry.get(unit, 0.0)
        action[:, position] = value * (1 - slant), value * (1 + slant)
    return np.clip(identity.resting + action, -1.5, 6.0)


def rotation_matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3): head => camera space; degrees. Roll is positive clockwise as seen in the picture."""
    y, p, r = np.deg2rad([yaw, pitch, roll])
    turn = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    nod = np.array([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
    tilt = np.array([[math.cos(r), math.sin(r), 0], [-math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return tilt @ nod @ turn


def light_rows(light: Light) -> np.ndarray:
    """(6, 3) float32: key direction, key colour, fill direction, fill colour, sky, ground."""
    azimuth, elevation = np.deg2rad([light.azimuth, light.elevation])
    key = np.array(
        [
            math.sin(azimuth) * math.cos(elevation),
            math.sin(elevation),
            math.cos(azimuth) * math.cos(elevation),
        ]
    )
    colour = np.array([1 + 0.16 * light.warmth, 1.0, 1 - 0.22 * light.warmth])
    fill = np.array([-0.7 * np.sign(light.azimuth or 1), 0.1, 0.7])
    ambient = light.ambient * np.array([1 - 0.06 * light.warmth, 1, 1 + 0.06 * light.warmth])
    rows = [
        key,
        light.strength * colour,
        fill,
        0.18 * light.strength * colour,
        1.15 * ambient,
        0.6 * ambient * colour,
    ]
    return np.array(rows, np.float32)


def expose(light: np.ndarray, look: Look) -> np.ndarray:
    """Light rows as the camera's exposure makes them: part of the way to a well exposed face."""
    skin = 0.3 * look.skin_r + 0.6 * look.skin_g + 0.1 * look.skin_b
    level = skin * (0.7 * light[1, 1] + light[3, 1] + 0.7 * light[4, 1] + 0.3 * light[5, 1])
    gain = np.clip((WELL_EXPOSED / level) ** 0.22, 0.75, 1.6)
    lit = light.copy()
    lit[[1, 3, 4, 5]] *= np.float32(gain)
    return lit


def _project(points: np.ndarray, distance: float) -> np.ndarray:
    """Camera space (..., 3) => (..., 2), x right and y down, in head units at the ears' depth."""
    near = distance / (distance - points[..., 2:3])
    return points[..., :2] * near * np.array([1, -1], points.dtype)


def _five_points(points: np.ndarray) -> np.ndarray:
    """The alignment's five points from the 51 inner landmarks (17..67)."""
    return np.stack(
        [points[19:25].mean(0), points[25:31].mean(0), points[13], points[31], points[37]]
    )


def _alignment(five: np.ndarray, parameters: FaceParameters) -> np.ndarray:
    """(2, 3): projected points => unit square, with the camera's misplacement."""
    # A side of 1 with pixel centres at .0 puts the template half a pixel off.
    matrix = alignment_matrix(five, 1)
    matrix[:, 2] += 0.5
    camera = parameters.camera
    turn = math.radians(camera.roll)
    c, s = camera.scale * math.cos(turn), camera.scale * math.sin(turn)
    jitter = np.array([[c, -s], [s, c]])
    matrix = jitter @ matrix
    matrix[:, 2] += np.array([0.5 + camera.shift_x, 0.5 + camera.shift_y]) - jitter @ [0.5, 0.5]
    return matrix


def _buffers(samples: int):
    if getattr(_scratch, "samples", None) != samples:
        _scratch.samples = samples
        _scratch.arrays = (
            np.empty((samples, samples), np.float32),
            np.empty((samples, samples), np.int32),
            np.empty((samples, samples, 3), np.float32),
            np.empty(RELIEF_SHAPE, np.float32),
        )
    return _scratch.arrays


def samples_per_pixel(side: int) -> int:
    """Samples along a pixel's side: small pictures take more, so that they equal shrunk large ones."""
    return 2 if side >= 160 else 3


def render(parameters: FaceParameters, side: int) -> RenderedFace:
    """Draw one face. The same parameters give the same pixels, on any thread or process."""
    person = _person(parameters.identity_seed)
    identity, parts = person.identity, person.parts
    total = total_action(parameters, identity)
    mesh = person.rest.copy()
    add_fields(mesh, *action_units.BASIS, action_units.weigh(total))
    lids = np.array(
        [
            action_units.lid_heights(
                total[h], identity.look.lid_upper, identity.look.lid_lower, parameters.closed
            )
            for h in (0, 1)
        ]
    )

    rotation = rotation_matrix(*parameters.pose)
    distance = parameters.camera.distance
    inner = landmarks.sample_grid(mesh, landmarks.inner_spots(identity.look, lids))
    inner = _project(inner @ rotation.T, distance)
    matrix = _alignment(_five_points(inner), parameters)

    factor = samples_per_pixel(side)
    samples = side * factor
    nearest, seen, colours, relief = _buffers(samples)
    points, normals, vertices = person.buffers()
    points[:_HEAD_VERTICES] = mesh.reshape(-1, 3)
    grid_normals(mesh, UPPER_ROW, normals[:_HEAD_VERTICES].reshape(mesh.shape))
    yaw, pitch, roll = parameters.pose
    rotations = np.stack([rotation, rotation_matrix(0.5 * yaw, 0.2 * pitch, 0.3 * roll)])
    place_vertices(
        points, normals, person.bodies, person.material, rotations.astype(np.float32), distance,
        (matrix * samples).astype(np.float32), vertices,
    )  # fmt: skip
    rasterize(vertices, parts.triangles, parts.two_sided, samples, nearest, seen)
    weights = np.zeros((len(RELIEFS), 2))
    weights[:-1] = np.clip(total[:, RELIEF_UNITS].T / 4, 0, None) ** 1.2
    weights[-1] = 1.3 * identity.age**1.5
    add_reliefs(relief, RELIEFS, RELIEF_BOXES, weights)
    jaw = total[:, -1].mean() / 5
    mouth = np.array(
        [
            person.mouth[0],
            person.mouth[1] - 0.012,
            person.mouth[1] - 0.03 - 0.30 * jaw,
            person.mouth[2] - 0.09,
            0.24,
            0.5,
        ]
    )
    shade(
        seen, vertices, parts.triangles, parts.kinds, identity.look, identity.moles, relief, NOISE,
        rotation, person.eyes, lids, np.array(parameters.gaze), mouth,
        expose(light_rows(parameters.light), identity.look),
        distance, draw_scene(parameters.background_seed), GAMMA, colours,
    )  # fmt: skip
    pixels = np.empty((side, side, 3), np.float32)
    box_downsample(colours, factor, pixels)
    grid = vertices[:_HEAD_VERTICES, :2].reshape(ROWS, COLUMNS, 2)
    outline = landmarks.contour(grid) / samples
    marks = np.concatenate([outline, move_points(matrix, inner)])
    landmarks.close_lips(marks)
    turned = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
    return RenderedFace(_finish(pixels, parameters), marks, (yaw, pitch, roll + turned))


def _finish(pixels: np.ndarray, parameters: FaceParameters) -> np.ndarray:
    """The camera's blur and noise, and rounding to uint8."""
    side, camera = len(pixels), parameters.camera
    if camera.blur * side > 0.25:
        pixels = cv2.GaussianBlur(pixels, (0, 0), camera.blur * side)
    if camera.noise > 0:
        # Averaging a 256 picture's pixels into larger ones would average their noise.
        spread = camera.noise * min(side / 256, 1.0)
        rng = np.random.default_rng([0x40, parameters.background_seed, parameters.identity_seed])
        pixels = pixels + rng.standard_normal(pixels.shape, np.float32) * np.float32(spread)
    return (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)


def render_batch(batch: Sequence[FaceParameters], side: int) -> np.ndarray:
    """uint8 (N, side, side, 3). The heavy part releases the interpreter's lock."""
    return np.stack([render(parameters, side).pixels for parameters in batch])
