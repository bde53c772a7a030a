"""The one pixel convention and the only conversions.

Inside the toolkit a picture is either
- `pixels`: uint8 array (H, W, 3), RGB, 0..255, as decoded from or written to a file, or
- `image`: float32 tensor (3, H, W) or (N, 3, H, W), RGB, -1..1, as networks see it.

Between a loader's workers and the device pixels travel as a uint8 tensor (`pack_pixels`).
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from norface.errors import CorpusError

if TYPE_CHECKING:
    import torch

MAX_PIXELS = 100_000_000
"A picture that would decompress to more than this is refused (decompression bombs)."

_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError,
            struct.error)  # fmt: skip
"What PIL's readers raise over files that are not as they should be."
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"EXIF orientation => what brings the stored picture upright."

cv2.setNumThreads(0)
# PIL warns from 89 megapixels on; what is too large for us is refused with a reason.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data")


def to_image(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (..., H, W, 3), 0..255 => float32 (..., 3, H, W), -1..1."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3)))
    return tensor.float().div_(127.5).sub_(1.0)


def pack_pixels(pixels: np.ndarray) -> torch.Tensor:
    """Pixels (..., H, W, 3) => uint8 tensor (..., 3, H, W): what travels from a loader's workers to
    the device, in a quarter of the memory of an image. `unpack_images` makes the image there."""
    import torch

    height, width = pixels.shape[-3:-1]
    planes = np.empty((*pixels.shape[:-3], 3, height, width), np.uint8)
    flat = zip(
        pixels.reshape(-1, height, width, 3), planes.reshape(-1, 3, height, width), strict=True
    )
    for picture, place in flat:
        cv2.split(picture, list(place))
    return torch.from_numpy(planes)


def unpack_images(
    batch: torch.Tensor, device: torch.device | str, *, layout: torch.memory_format | None = None
) -> torch.Tensor:
    """What `pack_pixels` made => float32, the same shape, -1..1, on a device.

    What is an image already (of a mixed batch, for example) is only moved there.
    """
    import torch

    batch = batch.to(device, non_blocking=True)
    if batch.dtype == torch.uint8:
        batch = batch.float().div_(127.5).sub_(1.0)
    return batch.contiguous(memory_format=layout or torch.contiguous_format)


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """float (..., 3, H, W), -1..1 (clipped) => uint8 (..., H, W, 3), 0..255, rounded."""
    scaled = image.detach().float().cpu().add(1.0).mul(127.5).round().clamp(0, 255)
    return np.moveaxis(scaled.byte().numpy(), -3, -1).copy()


def resize_images(images: torch.Tensor, side: int) -> torch.Tensor:
    """images (N, C, H, W) => (N, C, side, side), areas are averaged when shrinking."""
    import torch
    from torch.nn import functional

    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images
    if height % side == 0 and width % side == 0:
        return functional.avg_pool2d(images, (height // side, width // side))
    shrinks = side < height or side < width
    # Interpolation in bf16 loses the antialiasing filter's precision, so it is done in fp32.
    precise = images if images.dtype == torch.float64 else images.float()
    resized = functional.interpolate(
        precise, (side, side), mode="bilinear", align_corners=False, antialias=shrinks
    )
    return resized.to(images.dtype)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels by the header of a JPEG; None for what is none. Nothing is decoded
    (ITU-T T.81, B.2.2: the size stands in the segment that begins a frame)."""
    place = 2 if data[:2] == b"\xff\xd8" else len(data)
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        # A marker may be preceded by any number of fill bytes.
        place += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", data, place + 2)[0]
    return None


def check_size(data: bytes, side: int | None = None) -> str:
    """Why an aligned picture's bytes should not be decoded, in words; "" where they may be.

    side: which it should have in pixels, None = any below the limit of MAX_PIXELS.
    """
    size = jpeg_size(data)
    if size is None:
        return "the picture is not a readable JPEG"
    width, height = size
    if width * height > MAX_PIXELS:
        return f"the picture is {width}x{height}, more than 100 megapixels; refused"
    if side is not None and size != (side, side):
        return f"the picture is {width}x{height}, its index says {side}x{side}; see norface check"
    return ""


def decode_jpeg(data: bytes, name: str = "JPEG", *, side: int | None = None) -> np.ndarray:
    """Bytes of a shard's aligned JPEG => pixels (H, W, 3).

    Raises CorpusError naming `name` for what is none, too large, or not of `side` pixels.
    """
    what = check_size(data, side)
    if what:
        raise CorpusError(f"{name}: {what}")
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if found is None:
        raise CorpusError(f"{name}: the picture is not a readable JPEG")
    return found


def encode_jpeg(pixels: np.ndarray, quality: int = 95) -> bytes:
    """Pixels (H, W, 3) => JPEG with full colour resolution (4:4:4)."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY, quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]  # fmt: skip
    good, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not good:
        raise CorpusError(f"a picture of shape {pixels.shape} could not be written as JPEG")
    return data.tobytes()


def read_photo(path: str | Path) -> np.ndarray:
    """Any photograph (JPEG, PNG, ... grey, RGBA, 16 bit, EXIF-rotated) => upright pixels (H, W, 3).

    Raises CorpusError for what is no picture, is cut short, or is larger than MAX_PIXELS.
    """
    try:
        return decode_photo(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None


def photo_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels of the upright photograph, from its head alone.

    Raises CorpusError for what is no picture.
    """
    try:
        with Image.open(path) as picture:
            turned = read_orientation(picture) in (5, 6, 7, 8)
            width, height = picture.size
            return (height, width) if turned else (width, height)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise CorpusError(f"{path}: not a picture in a known format") from None
    except _DAMAGED as error:
        raise CorpusError(f"{path}: damaged picture ({error})") from None


def read_orientation(picture: Image.Image) -> int:
    """EXIF orientation 1..8 of a picture; 1 where its EXIF says none or is damaged.

    The pixels of such a file are sound, and every viewer shows them as they are stored.
    """
    try:
        found = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGED:
        return 1
    return found if found in _UPRIGHT else 1


def decode_photo(data: bytes, name: str) -> np.ndarray:
    """As `read_photo`, from bytes; `name` is used in errors."""
    try:
        picture: Image.Image = Image.open(io.BytesIO(data))
        if picture.width * picture.height > MAX_PIXELS:
            raise CorpusError(
                f"{name}: {picture.width}x{picture.height} is more than 100 megapixels; refused"
            )
        picture.load()
        if (turn := _UPRIGHT.get(read_orientation(picture))) is not None:
            picture = picture.transpose(turn)
        if picture.mode.startswith(("I", "F")):
            # 16-bit and 32-bit greys: PIL would clip them at 255, so bring the range down first.
            grey = np.asarray(picture, np.float64)
            top = 65535.0 if grey.max(initial=0) > 255 else 255.0
            picture = Image.fromarray((grey.clip(0, top) * (255.0 / top)).round().astype(np.uint8))
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
        return np.array(picture.convert("RGB"))
    except CorpusError:
        raise
    except Image.DecompressionBombError:
        # PIL's own limit, met before the size can be asked for.
        raise CorpusError(f"{name}: more than 100 megapixels; refused") from None
    except UnidentifiedImageError:
        raise CorpusError(f"{name}: not a picture in a known format") from None
    except _DAMAGED as error:
        raise CorpusError(f"{name}: damaged picture ({error})") from None


def mirror_pixels(pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, 3) => left and right exchanged, a copy."""
    return cv2.flip(pixels, 1)


def resize_pixels(pixels: np.ndarray, side: int) -> np.ndarray:
    """Square pixels (H, W, 3) => (side, side, 3); areas are averaged when shrinking."""
    if pixels.shape[0] == side and pixels.shape[1] == side:
        return pixels
    shrink = side < pixels.shape[0]
    return cv2.resize(
        pixels, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    )


def make_grid(rows: Sequence[Sequence[np.ndarray]], gap: int = 2) -> np.ndarray:
    """Rows of equally large pixels (H, W, 3) => one picture with white gaps."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + gap) + gap, columns * (width + gap) + gap, 3)
    sheet = np.full(shape, 255, np.uint8)
    for i, row in enumerate(rows):
        for j, pixels in enumerate(row):
            top, left = gap + i * (height + gap), gap + j * (width + gap)
            sheet[top : top + height, left : left + width] = pixels
    return sheet


def write_png(path: str | Path, pixels: np.ndarray) -> None:
    """Write pixels (H, W, 3) losslessly."""
    Image.fromarray(pixels).save(path)
