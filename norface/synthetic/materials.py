"""Colour of each stuff at a spot of a person: skin, brows, lips, hair, eyes, the mouth's inside."""

from __future__ import annotations

import math

import numba

from norface.synthetic.head import EYE_U, MOUTH_HALF_WIDTH, MOUTH_V

_BITS = 8
_SIDE = 1 << _BITS
_MASK = _SIDE - 1


@numba.njit(inline="always")
def noise_at(noise, layer, u, v):
    """Bilinear, tiled; one period a unit of (u, v). noise: textures.NOISE, flat; |u|, |v| < 4096."""
    # Whole periods are added so that rounding to zero rounds down.
    x, y = u * _SIDE + 1048576.0, v * _SIDE + 1048576.0
    j, i = int(x), int(y)
    fx, fy = x - j, y - i
    top_row = (layer << (2 * _BITS)) | ((i & _MASK) << _BITS)
    low_row = (layer << (2 * _BITS)) | (((i + 1) & _MASK) << _BITS)
    j1 = (j + 1) & _MASK
    j &= _MASK
    top = noise[top_row | j] * (1 - fx) + noise[top_row | j1] * fx
    low = noise[low_row | j] * (1 - fx) + noise[low_row | j1] * fx
    return top * (1 - fy) + low * fy


@numba.njit(inline="always")
def decay(x):
    """(1 + x / 16)^16, for x <= 0: like exp(x), 0 below -16, and several times faster."""
    x = max(1 + x * 0.0625, 0.0)
    x *= x
    x *= x
    x *= x
    return x * x


@numba.njit(inline="always")
def bump(x, y, sx, sy):
    """About exp(-r^2) with radii sx, sy."""
    x, y = x / sx, y / sy
    return decay(-x * x - y * y)


@numba.njit(inline="always")
def step(value, start, end):
    """Smoothstep."""
    t = min(max((value - start) / (end - start), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@numba.njit(inline="always")
def lid_edges(t, upper, lower, tilt):
    """Heights of the lids' edges at t = -1 (inner corner) .. 1 (outer) of the eye's width."""
    inside = max(1 - t * t, 0.0)
    shift = t + 0.12
    shift = abs(shift / 1.13)
    crown = max(1 - shift * shift * (0.75 + 0.25 * shift), 0.0) * (1 - (t * t) ** 12)
    base = tilt * t - 0.006 * (1 - t) * 0.5
    return base + upper * crown, base - lower * math.sqrt(inside) * math.sqrt(math.sqrt(inside))


@numba.njit(inline="always")
def brow_cover(a, v, look, noise, u):
    """0..1: how much of the skin the brow hides."""
    s = (a - look.brow_start) / (look.brow_end - look.brow_start)
    if s < -0.15 or s > 1.1 or v < 0.02 or v > 0.42:
        return 0.0
    arch = look.brow_arch * (1 - ((s - 0.62) / 0.62) ** 2)
    middle = look.brow_height + look.brow_tilt * (s - 0.5) * 0.4 + arch - 0.03
    half = 0.5 * look.brow_thickness * 1.9 * (min(1.0, 0.62 + 2.2 * max(s, 0.0)))
    half *= 1 - 0.75 * max(s - 0.4, 0.0) / 0.6
    d = (v - middle) / max(half, 0.004)
    if abs(d) > 1.8:
        return 0.0
    strand = noise_at(noise, 1, 2.6 * u + 1.1 * v + look.noise_u, 0.9 * v - 0.6 * a + look.noise_v)
    edge = 1 - step(abs(d), 0.55, 1.25 + 0.18 * strand)
    ends = step(s, -0.1, 0.12) * (1 - step(s, 0.86, 1.06))
    return min(edge * ends * look.brow_density * (0.92 + 0.16 * strand), 1.0)


@numba.njit(inline="always")
def lip_cover(a, v, look):
    """(cover 0..1, height within the lip -1..1): where the red of the lips is."""
    across = a / (MOUTH_HALF_WIDTH + 0.012)
    if across >= 1 or abs(v - MOUTH_V) > 0.16:
        return 0.0, 0.0
    round_ = 1 - across * across
    if v >= MOUTH_V:
        bow = 1 - 0.22 * decay(-((a / 0.032) ** 2)) - 0.25 * across
        size = look.lip_upper * bow * math.sqrt(round_) + 0.001
    else:
        size = look.lip_lower * round_ * (1.4 - 0.4 * round_) + 0.001
    t = abs(v - MOUTH_V) / size
    return 1 - step(t, 1 - 0.012 / (size + 0.006), 1 + 0.010 / (size + 0.006)), min(t, 1.0)


@numba.njit(inline="always")
def beard_cover(a, v, look):
    """(stubble, beard) 0..1: hair of the lower face."""
    if v > -0.15 or look.stubble + look.beard + look.moustache + look.goatee == 0:
        return 0.0, 0.0
    jaw_top = -0.88 + 0.62 * step(a, 0.24, 0.85)
    jaw = step(v, jaw_top + 0.07, jaw_top - 0.07) * (1 - step(a, 1.12, 1.26))
    chin = min(1.5 * bump(a, v + 1.03, 0.26, 0.2), 1.0)
    lip_top = -0.575 - 0.28 * a * a
    lip = step(v, lip_top, lip_top - 0.04) * step(v, -0.74, -0.70) * (1 - step(a, 0.22, 0.3))
    side = step(v, -0.66, -0.72) * bump(a - 0.315, v + 0.82, 0.065, 0.17)
    side = min(1.5 * side, 1.0)
    stubble = max(max(jaw, chin), max(lip, side)) * look.stubble
    beard = max(max(jaw, chin) * look.beard, chin * look.goatee)
    beard = max(beard, max(lip * look.moustache, side * max(look.goatee, look.beard)))
    return stubble, beard


@numba.njit(inline="always")
def skin_colour(u, v, flush, dark, gloss, look, moles, noise):
    """Albedo (r, g, b) and gloss. flush, dark, gloss: see renderer.complexion."""
    a = abs(u)
    broad = noise_at(noise, 0, 0.45 * u + look.noise_u, 0.45 * v + look.noise_v)
    fine = noise_at(noise, 1, 1.2 * u + look.noise_v, 1.2 * v + look.noise_u)
    tint = 1 + look.blotch * 0.6 * broad + 0.022 * fine
    r, g, b = look.skin_r * tint, look.skin_g * tint, look.skin_b * tint
    red = max(flush + 0.12 * look.redness * broad, 0.0)
    g *= 1 - 0.24 * red
    b *= 1 - 0.20 * red
    if look.freckles > 0.02 and v > -0.8:
        where = bump(a - 0.25, v + 0.28, 0.36, 0.22) + 0.4 * bump(a, v - 0.4, 0.5, 0.3)
        spots = noise_at(noise, 2, 0.8 * u + look.noise_u, 0.8 * v + look.noise_v)
        dark = min(spots * where * look.freckles, 0.75)
        r *= 1 - 0.38 * dark
        g *= 1 - 0.55 * dark
        b *= 1 - 0.65 * dark
    for k in range(len(moles)):
        if abs(u - moles[k, 0]) > 0.07 or abs(v - moles[k, 1]) > 0.07:
            continue
        dot = bump(u - moles[k, 0], v - moles[k, 1], moles[k, 2], moles[k, 2])
        r *= 1 - 0.75 * dot
        g *= 1 - 0.82 * dot
        b *= 1 - 0.85 * dot
    r, g, b = r * (1 - 0.8 * dark), g * (1 - dark), b * (1 - 0.85 * dark)
    stubble, beard = beard_cover(a, v, look)
    if stubble > 0.01 or beard > 0.01:
        grain = noise_at(noise, 1, 3.1 * u, 3.1 * v)
        cover = min(stubble * (0.42 + 0.12 * grain), 0.8)
        strand = noise_at(noise, 1, 2.7 * u + 0.4 * v, 0.5 * v)
        thick = step(beard + 0.16 * strand, 0.3, 0.75)
        shade = 0.85 + 0.28 * strand
        # Stubs are mostly shadow, whatever their colour.
        r = r * (1 - cover) + cover * (0.4 * look.hair_r + 0.15 * look.skin_r)
        g = g * (1 - cover) + cover * (0.4 * look.hair_g + 0.15 * look.skin_g)
        b = b * (1 - cover) + cover * (0.4 * look.hair_b + 0.15 * look.skin_b)
        r = r * (1 - thick) + thick * look.hair_r * shade
        g = g * (1 - thick) + thick * look.hair_g * shade
        b = b * (1 - thick) + thick * look.hair_b * shade
        gloss *= 1 - 0.8 * max(thick, cover)
    cover, height = lip_cover(a, v, look)
    if cover > 0:
        lines = noise_at(noise, 1, 2.2 * u + look.noise_u, 0.25 * v)
        tint = (1 + 0.05 * lines) * (0.78 + 0.22 * step(height, 0.0, 0.45))
        r = r * (1 - cover) + cover * look.lip_r * tint
        g = g * (1 - cover) + cover * look.lip_g * tint
        b = b * (1 - cover) + cover * look.lip_b * tint
        gloss = gloss * (1 - cover) + cover * look.lip_gloss
    if a < MOUTH_HALF_WIDTH + 0.03 and abs(v - MOUTH_V) < 0.04:
        line = decay(-(((v - MOUTH_V) / 0.0085) ** 2)) * (1 - step(a, 0.235, 0.275))
        line = max(line, 0.6 * bump(a - MOUTH_HALF_WIDTH - 0.004, v - MOUTH_V, 0.018, 0.016))
        r, g, b = r * (1 - 0.72 * line), g * (1 - 0.82 * line), b * (1 - 0.8 * line)
    if a < 0.15 and abs(v + 0.538) < 0.06:
        nostril = bump(a - 0.07, v + 0.538, 0.043, 0.020)
        r, g, b = r * (1 - 0.8 * nostril), g * (1 - 0.88 * nostril), b * (1 - 0.88 * nostril)
    brow = brow_cover(a, v, look, noise, u)
    if brow > 0:
        r = r * (1 - brow) + brow * look.brow_r
        g = g * (1 - brow) + brow * look.brow_g
        b = b * (1 - brow) + brow * look.brow_b
        gloss *= 1 - brow
    return r, g, b, gloss


@numba.njit(inline="always")
def lid_shade(a, v, look, upper, lower):
    """(darkness 0..1, liner 0..1) of the skin around an eye: lashes, fold, rims."""
    t = (a - EYE_U) / look.eye_half_width
    if abs(t) > 1.35 or abs(v) > 0.22:
        return 0.0, 0.0
    inside = max(-1.0, min(1.0, t))
    top, low = lid_edges(inside, upper, lower, look.eye_tilt)
    over, under = v - top, low - v
    beyond = 1 - step(abs(t), 0.98, 1.12)
    width = 0.006 + 0.013 * look.lash
    lash = decay(-((max(over, 0.0) / width) ** 2)) * beyond if over > 0.0 or under < 0.0 else 0.0
    lash += 0.28 * look.lash * decay(-((max(under, 0.0) / 0.007) ** 2)) * beyond * (over < 0.0)
    gap = max(look.fold - 0.35 * (upper - look.lid_upper), 0.006)
    crease = decay(-(((over - gap * (1 - 0.35 * t * t)) / 0.010) ** 2)) * (
        1 - step(abs(t), 0.9, 1.2)
    )
    shadow = look.eye_shadow * step(over, -0.01, 0.0) * (1 - step(over, 0.03, 0.09)) * beyond
    return min(0.45 * crease + 0.5 * shadow, 0.8), min(lash * (0.55 + 0.45 * look.lash), 1.0)


@numba.njit(inline="always")
def eye_colour(ox, oy, oz, dx, dy, dz, centre, gaze_x, gaze_y, look, noise):
    """Albedo (r, g, b), normal (x, y, z), share of iris, of one eyeball that a ray meets.

    (ox, oy, oz) + s (dx, dy, dz): the ray in head space, a unit direction. radius 0.125.
    """
    cx, cy, cz = ox - centre[0], oy - centre[1], oz - centre[2]
    b = cx * dx + cy * dy + cz * dz
    c = cx * cx + cy * cy + cz * cz - 0.125 * 0.125
    root = b * b - c
    s = -b - math.sqrt(root) if root > 0 else -b
    nx, ny, nz = cx + s * dx, cy + s * dy, cz + s * dz
    size = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-9)
    nx, ny, nz = nx * size, ny * size, nz * size
    gz = math.sqrt(max(1 - gaze_x * gaze_x - gaze_y * gaze_y, 0.1))
    ex, ey = nx - gaze_x, ny - gaze_y
    away = math.sqrt(max(ex * ex + ey * ey + (nz - gz) ** 2, 0.0)) * 0.125
    veins = noise_at(noise, 1, 1.5 * nx, 1.5 * ny)
    edge = min(ex * ex + ey * ey, 1.0)
    r, g, bl = (
        0.58 - 0.12 * edge,
        0.55 - 0.21 * edge - 0.015 * veins,
        0.53 - 0.2 * edge - 0.015 * veins,
    )
    iris = 1 - step(away, look.iris_size - 0.007, look.iris_size + 0.004)
    if iris > 0:
        ring = away / look.iris_size
        angle = math.atan2(ey, ex)
        rays = noise_at(noise, 1, 0.35 * angle, 0.2 * ring + look.noise_u)
        tint = (0.75 + 0.75 * ring * (1 - step(ring, 0.72, 1.0)) + 0.18 * rays) * (
            1 - 0.6 * step(ring, 0.8, 1.0)
        )
        pupil = 1 - step(ring, 0.36, 0.46)
        tint *= 1 - 0.97 * pupil
        r = r * (1 - iris) + iris * look.iris_r * tint
        g = g * (1 - iris) + iris * look.iris_g * tint
        bl = bl * (1 - iris) + iris * look.iris_b * tint
    return r, g, bl, nx, ny, nz, iris


@numba.njit(inline="always")
def mouth_colour(ox, oy, oz, dx, dy, dz, mouth):
    """Albedo (r, g, b) and gloss of what a ray through the parted lips meets.

    mouth: x of the middle, lower edge of the upper teeth, upper edge of the lower teeth, depth z of
    the front teeth, half width of the row of teeth, yellowness; all head space.
    """
    s = (mouth[3] - oz) / min(dz, -1e-3)
    x, y = ox + s * dx - mouth[0], oy + s * dy
    # The rows of teeth bend back from the middle.
    s += 1.4 * x * x / max(-dz, 1e-3)
    x, y = ox + s * dx - mouth[0], oy + s * dy
    inside = 1 - step(abs(x), 0.5 * mouth[4], mouth[4])
    upper, lower = y - mouth[1], mouth[2] - y
    r, g, b, gloss = 0.045, 0.012, 0.012, 0.0
    tongue = 1 - step(((x / 0.2) ** 2 + ((y - mouth[2] + 0.03) / 0.09) ** 2), 0.55, 1.0)
    if tongue > 0:
        shade = tongue * (1 - 0.25 * decay(-((x / 0.02) ** 2)))
        r, g, b, gloss = r + 0.30 * shade, g + 0.075 * shade, b + 0.08 * shade, 0.3
    for row in range(2):
        edge = upper if row == 0 else lower
        width = 0.088 if row == 0 else 0.066
        k = abs(x) / width if row == 0 else x / width
        place = k - math.floor(k) if row == 0 else k + 0.5 - math.floor(k + 0.5)
        corner = 0.012 * (2 * abs(place - 0.5)) ** 4
        if edge > corner:
            high = 0.115 if row == 0 else 0.085
            gum = step(edge, high - 0.01 - 0.03 * (2 * abs(place - 0.5)) ** 2, high)
            gap = decay(-(((0.5 - abs(place - 0.5)) * width / 0.004) ** 2))
            tint = (1 - 0.35 * gap) * (0.25 + 0.75 * inside) * (0.92 if row == 0 else 0.72)
            tone = mouth[5]
            r = tint * (0.86 * (1 - gum) + 0.42 * gum)
            g = tint * ((0.84 - 0.06 * tone) * (1 - gum) + 0.13 * gum)
            b = tint * ((0.79 - 0.2 * tone) * (1 - gum) + 0.13 * gum)
            gloss = 0.5
            break
    return r, g, b, gloss
