"""Small films whose pictures tell their number."""

import cv2
import numpy as np


def write_film(path, count, *, code="MJPG", size=(64, 48), first=0):
    """`count` pictures; number n, counted from `first`, is red of 8 n + 4, green 40, blue 200."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 25, size)
    assert writer.isOpened()
    for number in range(first, first + count):
        pixels = np.full((size[1], size[0], 3), (8 * number + 4, 40, 200), np.uint8)
        writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def number_shown(pixels):
    """What `write_film` wrote into a picture."""
    assert abs(pixels[..., 2].mean() - 200) < 12, "not RGB"
    return round((pixels[..., 0].mean() - 4) / 8)
