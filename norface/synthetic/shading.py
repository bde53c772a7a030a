"""Deferred shading: what each sample sees => its colour, gamma-coded.

Numba keeps the compiled code beside this file and renews it when this file changes, but not when
materials.py does, whose functions are compiled into it: touch this file after editing that one.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from norface.synthetic.accessories import CURTAIN, EAR, HEAD, MOUTH, TORSO
from norface.synthetic.head import EYE_U
from norface.synthetic.materials import (
    decay,
    eye_colour,
    lid_edges,
    lid_shade,
    mouth_colour,
    noise_at,
    skin_colour,
    step,
)
from norface.synthetic.rasterizer import (
    DARK,
    FLUSH,
    HAIR,
    LIT,
    NX,
    NY,
    NZ,
    OIL,
    PX,
    PY,
    PZ,
    U,
    V,
    X,
    Y,
)
from norface.synthetic.textures import RELIEF_DENSITY, RELIEF_U, RELIEF_V

_RELIEF_LEFT, _RELIEF_TOP = RELIEF_U[0], RELIEF_V[1]

GAMMA = (np.linspace(0, 1, 4097) ** (1 / 2.2)).astype(np.float32)
"Linear light 0..1 in 4096 steps => the picture's values 0..1."


@numba.njit(inline="always")
def _tone(value):
    """Soft shoulder: linear up to 0.7, never above 1."""
    if value > 0.7:
        value = 0.7 + 0.3 * (1 - math.exp(-(value - 0.7) / 0.3))
    return max(value, 0.0)


@numba.njit(inline="always")
def _light(key, fill, sky, light, channel):
    """Light of one colour channel. light (6, 3): see renderer.light_rows."""
    even = light[4, channel] * sky + light[5, channel] * (1 - sky)
    return even + light[1, channel] * max(key, 0.0) + light[3, channel] * fill


@numba.njit(inline="always")
def _gloss(nx, ny, nz, vx, vy, vz, light, power):
    """Blinn's highlight of the key light for the unit vector to the viewer."""
    hx, hy, hz = light[0, 0] + vx, light[0, 1] + vy, light[0, 2] + vz
    size = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
    facing = (nx * hx + ny * hy + nz * hz) * size
    return decay(power * (facing - 1))


@numba.njit(inline="always")
def _hair(u, v, look, noise):
    """Albedo of hair with strands along v."""
    curl = 0.12 + 0.5 * look.hair_curl
    bend = noise_at(noise, 0, 0.6 * u + look.noise_u, 0.6 * v) * 0.06 * look.hair_wave
    strand = noise_at(noise, 1, 1.7 * (u + bend) + look.noise_v, 1.7 * curl * curl * v)
    broad = noise_at(noise, 0, 1.2 * (u + bend), 0.35 * v + look.noise_v)
    return max(0.95 + 0.22 * strand + 0.12 * broad, 0.2), strand


@numba.njit(inline="always")
def _background(x, y, scene):
    """Linear colour at (x, y) in 0..1. scene (N, 10): see background.draw_scene."""
    shift = scene[0, 6] * (x - 0.5) + scene[0, 7] * (y - 0.5)
    r, g, b = scene[0, 0], scene[0, 1], scene[0, 2]
    t = min(max(0.5 + shift, 0.0), 1.0)
    r, g, b = r + t * (scene[0, 3] - r), g + t * (scene[0, 4] - g), b + t * (scene[0, 5] - b)
    for k in range(1, len(scene)):
        dx, dy = x - scene[k, 3], y - scene[k, 4]
        p = scene[k, 5] * dx + scene[k, 6] * dy
        q = scene[k, 7] * dx + scene[k, 8] * dy
        soft = abs(scene[k, 9])
        d = max(abs(p), abs(q)) if scene[k, 9] < 0 else math.sqrt(p * p + q * q)
        if d >= 1 + soft:
            continue
        cover = 0.85 * (1 - step(d, 1 - soft, 1 + soft))
        r += cover * (scene[k, 0] - r)
        g += cover * (scene[k, 1] - g)
        b += cover * (scene[k, 2] - b)
    return r, g, b


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def shade(
    seen, vertices, triangles, kinds,
    look, moles, relief, noise, rotation, eyes, lids, gaze, mouth, light, camera, scene, gamma, out,
):  # fmt: skip
    """Colour every sample: out (side, side, 3) float32, 0..1 gamma-coded.

    seen, vertices, triangles as in rasterize; kinds (T,): see accessories; rotation (3, 3): head =>
    camera; eyes (2, 3) centres, lids (2, 2) edges, gaze (2,), mouth (6,) in head space; light
    (6, 3); camera: its distance; scene: the background.
    """
    side = seen.shape[0]
    r00, r01, r02 = rotation[0, 0], rotation[0, 1], rotation[0, 2]
    r10, r11, r12 = rotation[1, 0], rotation[1, 1], rotation[1, 2]
    r20, r21, r22 = rotation[2, 0], rotation[2, 1], rotation[2, 2]
    ox, oy, oz = r20 * camera, r21 * camera, r22 * camera
    for py in range(side):
        for px in range(side):
            t = seen[py, px]
            if t < 0:
                r, g, b = _background((px + 0.5) / side, (py + 0.5) / side, scene)
                out[py, px, 0] = gamma[int(_tone(r) * 4096)]
                out[py, px, 1] = gamma[int(_tone(g) * 4096)]
                out[py, px, 2] = gamma[int(_tone(b) * 4096)]
                continue
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            x0, y0 = vertices[i, X], vertices[i, Y]
            ax, ay = vertices[j, X] - x0, vertices[j, Y] - y0
            bx, by = vertices[k, X] - x0, vertices[k, Y] - y0
            qx, qy = px + 0.5 - x0, py + 0.5 - y0
            inverse = 1.0 / (ax * by - bx * ay)
            w1 = (qx * by - bx * qy) * inverse
            w2 = (ax * qy - qx * ay) * inverse
            w0 = 1 - w1 - w2
            x = w0 * vertices[i, PX] + w1 * vertices[j, PX] + w2 * vertices[k, PX]
            y = w0 * vertices[i, PY] + w1 * vertices[j, PY] + w2 * vertices[k, PY]
            z = w0 * vertices[i, PZ] + w1 * vertices[j, PZ] + w2 * vertices[k, PZ]
            nx = w0 * vertices[i, NX] + w1 * vertices[j, NX] + w2 * vertices[k, NX]
            ny = w0 * vertices[i, NY] + w1 * vertices[j, NY] + w2 * vertices[k, NY]
            nz = w0 * vertices[i, NZ] + w1 * vertices[j, NZ] + w2 * vertices[k, NZ]
            u = w0 * vertices[i, U] + w1 * vertices[j, U] + w2 * vertices[k, U]
            v = w0 * vertices[i, V] + w1 * vertices[j, V] + w2 * vertices[k, V]
            lit = w0 * vertices[i, LIT] + w1 * vertices[j, LIT] + w2 * vertices[k, LIT]
            vx, vy, vz = -x, -y, camera - z
            size = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx * size, vy * size, vz * size
            kind = kinds[t]
            gloss, power, soft = 0.0, 22.0, False
            if kind <= MOUTH:
                a, half = abs(u), 1 if u > 0 else 0
                # The ray from the camera, in head space, for what lies behind openings.
                dx = -(r00 * vx + r10 * vy + r20 * vz)
                dy = -(r01 * vx + r11 * vy + r21 * vz)
                dz = -(r02 * vx + r12 * vy + r22 * vz)
                eye_t = (a - EYE_U) / look.eye_half_width
                top, low = -1.0, 1.0
                if abs(eye_t) < 1 and abs(v) < 0.2 and kind == HEAD:
                    top, low = lid_edges(eye_t, lids[half, 0], lids[half, 1], look.eye_tilt)
                if kind == MOUTH:
                    r, g, b, gloss = mouth_colour(ox, oy, oz, dx, dy, dz, mouth)
                    nx, ny, nz = 0.0, 0.0, 1.0
                    gloss *= 0.25
                    lit = 0.75
                elif v < top and v > low:
                    r, g, b, hx, hy, hz, iris = eye_colour(
                        ox, oy, oz, dx, dy, dz, eyes[half], gaze[0], gaze[1], look, noise
                    )
                    nx, ny, nz = (
                        r00 * hx + r01 * hy + r02 * hz,
                        r10 * hx + r11 * hy + r12 * hz,
                        r20 * hx + r21 * hy + r22 * hz,
                    )
                    # The upper lid and its lashes throw a shadow; the inner corner is pink.
                    shadow = (
                        1
                        - 0.55 * decay(-(((top - v) / 0.026) ** 2))
                        - 0.15 * decay(-(((v - low) / 0.012) ** 2))
                    )
                    corner = 1 - step(eye_t, -0.97, -0.78)
                    r, g, b = (
                        r * (1 - 0.25 * corner),
                        g * (1 - 0.55 * corner),
                        b * (1 - 0.55 * corner),
                    )
                    rim = decay(-((min(top - v, v - low) / 0.006) ** 2))
                    r, g, b = r * (1 - 0.4 * rim), g * (1 - 0.6 * rim), b * (1 - 0.6 * rim)
                    lit = min(lit + 0.15, 1.0) * shadow
                    gloss, power = 2.2, 240.0
                else:
                    hair = w0 * vertices[i, HAIR] + w1 * vertices[j, HAIR] + w2 * vertices[k, HAIR]
                    cover = 0.0
                    tint = 1.0
                    if hair > -0.06:
                        tint, strand = _hair(u, v, look, noise)
                        cover = step(hair + 0.013 * strand, -0.012, 0.022) * look.scalp
                    r = g = b = 0.0
                    if cover < 0.995:
                        flush = (
                            w0 * vertices[i, FLUSH]
                            + w1 * vertices[j, FLUSH]
                            + w2 * vertices[k, FLUSH]
                        )
                        dark = (
                            w0 * vertices[i, DARK] + w1 * vertices[j, DARK] + w2 * vertices[k, DARK]
                        )
                        gloss = (
                            w0 * vertices[i, OIL] + w1 * vertices[j, OIL] + w2 * vertices[k, OIL]
                        )
                        r, g, b, gloss = skin_colour(u, v, flush, dark, gloss, look, moles, noise)
                        dark, liner = lid_shade(a, v, look, lids[half, 0], lids[half, 1])
                        keep = (1 - dark) * (1 - 0.93 * liner)
                        r, g, b = r * keep, g * keep, b * keep
                        if hair > -0.06:
                            lit *= 1 - 0.35 * step(hair, -0.06, 0.0) * (1 - cover) * look.scalp
                        fx = (u - _RELIEF_LEFT) * RELIEF_DENSITY - 0.5
                        fy = (_RELIEF_TOP - v) * RELIEF_DENSITY - 0.5
                        if (
                            fx > 1
                            and fy > 1
                            and fx < relief.shape[1] - 2
                            and fy < relief.shape[0] - 2
                        ):
                            c, d = int(fx), int(fy)
                            fx, fy = fx - c, fy - d
                            h00, h01 = relief[d, c], relief[d, c + 1]
                            h10, h11 = relief[d + 1, c], relief[d + 1, c + 1]
                            height = (h00 * (1 - fx) + h01 * fx) * (1 - fy) + (
                                h10 * (1 - fx) + h11 * fx
                            ) * fy
                            du = (h01 - h00) * (1 - fy) + (h11 - h10) * fy
                            dv = (h00 - h10) * (1 - fx) + (h01 - h11) * fx
                            # Tilt the normal in the head's x-y plane by the slope of the relief.
                            tx, ty = -1.15 * du, -1.15 * dv
                            nx += r00 * tx + r01 * ty
                            ny += r10 * tx + r11 * ty
                            nz += r20 * tx + r21 * ty
                            if height < 0:
                                deep = decay(0.50 * height)
                                lit *= deep
                                g *= 0.5 + 0.5 * deep
                                b *= 0.5 + 0.5 * deep
                        soft = True
                    if cover > 0:
                        r = r * (1 - cover) + cover * look.hair_r * tint
                        g = g * (1 - cover) + cover * look.hair_g * tint
                        b = b * (1 - cover) + cover * look.hair_b * tint
                        gloss = gloss * (1 - cover) + 0.35 * cover * tint
                        power = power * (1 - cover) + 14.0 * cover
            elif kind == TORSO:
                neckline = -1.36 - 0.1 * math.cos(u) + 0.015 * look.hair_wave
                if v < neckline:
                    weave = noise_at(noise, 1, 3 * u, 3 * v)
                    fold = noise_at(noise, 0, 0.5 * u, 0.3 * v + look.noise_u)
                    tint = 1 + 0.05 * weave + 0.12 * fold
                    edge = 1 - 0.35 * decay(-(((v - neckline + 0.02) / 0.03) ** 2))
                    r, g, b = (
                        look.shirt_r * tint * edge,
                        look.shirt_g * tint * edge,
                        look.shirt_b * tint * edge,
                    )
                else:
                    broad = noise_at(noise, 0, 0.45 * u, 0.45 * v)
                    tint = (0.9 + 0.04 * broad) * (1 - 0.3 * decay(-(((v - neckline) / 0.03) ** 2)))
                    r, g, b = (
                        look.skin_r * tint,
                        0.96 * look.skin_g * tint,
                        0.95 * look.skin_b * tint,
                    )
                    soft = True
                # The head's shadow on the neck.
                lit = 1 - 0.55 * step(v, -1.5, -1.0)
            elif kind == EAR:
                dark = 0.45 * decay(-(((u - 0.55) / 0.22) ** 2)) + 0.35 * (1 - step(u, 0.0, 0.4))
                r, g, b = (
                    look.skin_r * (1 - 0.8 * dark),
                    look.skin_g * 0.92 * (1 - dark),
                    look.skin_b * 0.92 * (1 - dark),
                )
                soft = True
                lit = 0.9
            elif kind == CURTAIN:
                tint, strand = _hair(u, v, look, noise)
                r, g, b = look.hair_r * tint, look.hair_g * tint, look.hair_b * tint
                gloss, power = 0.35 * tint, 14.0
                if nx * vx + ny * vy + nz * vz < 0:
                    nx, ny, nz = -nx, -ny, -nz
                    r, g, b, gloss = 0.4 * r, 0.4 * g, 0.4 * b, 0.0
                lit = 0.95
            else:
                r, g, b = look.frame_r, look.frame_g, look.frame_b
                if nx * vx + ny * vy + nz * vz < 0:
                    nx, ny, nz = -nx, -ny, -nz
                gloss, power = 0.6, 40.0
                lit = 1.0
            size = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-9)
            nx, ny, nz = nx * size, ny * size, nz * size
            shine = 0.0
            if gloss > 0.01:
                rim = 1 - max(nx * vx + ny * vy + nz * vz, 0.0)
                shine = (
                    gloss
                    * lit
                    * (0.16 + 0.5 * rim**4)
                    * _gloss(nx, ny, nz, vx, vy, vz, light, power)
                )
            key = nx * light[0, 0] + ny * light[0, 1] + nz * light[0, 2]
            fill = max(nx * light[2, 0] + ny * light[2, 1] + nz * light[2, 2], 0.0)
            sky = 0.5 + 0.5 * ny
            key_r = key_g = key_b = key
            if soft:
                # Skin lets red light pass further round than blue.
                key_r, key_g, key_b = (key + 0.37) / 1.37, (key + 0.24) / 1.24, (key + 0.19) / 1.19
            r = r * lit * _light(key_r, fill, sky, light, 0) + shine * light[1, 0]
            g = g * lit * _light(key_g, fill, sky, light, 1) + shine * light[1, 1]
            b = b * lit * _light(key_b, fill, sky, light, 2) + shine * light[1, 2]
            out[py, px, 0] = gamma[int(_tone(r) * 4096)]
            out[py, px, 1] = gamma[int(_tone(g) * 4096)]
            out[py, px, 2] = gamma[int(_tone(b) * 4096)]
