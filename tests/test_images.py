"""The pixel convention and the reading of any photograph."""

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from norface import images
from norface.errors import CorpusError
from norface.images import (
    decode_jpeg,
    decode_photo,
    encode_jpeg,
    jpeg_size,
    make_grid,
    mirror_pixels,
    pack_pixels,
    photo_size,
    read_photo,
    resize_pixels,
    to_image,
    to_pixels,
    unpack_images,
)


def encode(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


RAMP = np.arange(0, 240, 4, dtype=np.uint8).reshape(6, 10)
"A grey picture, 6 high and 10 wide."


def test_black_is_minus_one_and_white_is_one():
    pixels = np.array([[[0, 255, 51]]], np.uint8)
    torch.testing.assert_close(to_image(pixels)[:, 0, 0], torch.tensor([-1.0, 1.0, -0.6]))


@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 7), (2, 4, 5, 7)])
def test_bytes_of_a_loader_become_the_same_images(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    packed = pack_pixels(pixels)
    assert packed.dtype == torch.uint8
    assert torch.equal(unpack_images(packed, "cpu"), to_image(pixels))
    assert torch.equal(unpack_images(to_image(pixels), "cpu"), to_image(pixels))
    if packed.ndim == 4:
        images = unpack_images(packed, "cpu", layout=torch.channels_last)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(images, to_image(pixels))


def test_a_mirrored_picture_is_read_from_right_to_left():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(mirror_pixels(pixels), pixels[:, ::-1])


def test_every_value_survives_the_way_to_networks_and_back():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    np.testing.assert_array_equal(to_pixels(to_image(pixels)), pixels)
    batch = np.stack([pixels, 255 - pixels])
    np.testing.assert_array_equal(to_pixels(to_image(batch)), batch)


def test_values_outside_the_range_are_clipped():
    image = torch.tensor([-3.0, 0.0, 3.0]).reshape(3, 1, 1)
    assert to_pixels(image).ravel().tolist() == [0, 128, 255]


def test_a_grey_photograph_becomes_three_equal_channels():
    found = decode_photo(encode(Image.fromarray(RAMP)), "grey.png")
    np.testing.assert_array_equal(found, RAMP[..., None].repeat(3, -1))


def test_sixteen_bits_are_brought_down_not_clipped():
    deep = RAMP.astype(np.uint16) * 257
    found = decode_photo(encode(Image.fromarray(deep)), "deep.png")
    np.testing.assert_array_equal(found[..., 0], RAMP)


def test_transparency_shows_white():
    colour = np.full((4, 4, 4), (200, 100, 0, 255), np.uint8)
    colour[0, 0, 3] = 0
    found = decode_photo(encode(Image.fromarray(colour)), "alpha.png")
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[1, 1].tolist() == [200, 100, 0]


def test_palette_and_cmyk_photographs_are_read_in_colour():
    red = Image.new("RGB", (8, 8), (250, 10, 20))
    for data in (encode(red.convert("P")), encode(red.convert("CMYK"), "TIFF")):
        np.testing.assert_allclose(decode_photo(data, "red")[4, 4], (250, 10, 20), atol=30)


# EXIF orientation => what must be done to the stored picture to see it upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode_photo(encode(Image.fromarray(RAMP), exif=exif), "turned.png")
    np.testing.assert_array_equal(found[..., 0], UPRIGHT[orientation](RAMP))


TURNED = (0x0112, 3, struct.pack("<HH", 6, 0))
"EXIF entry: orientation 6."


def exif_of(*entries):
    """An EXIF block of (tag, type, four bytes of value)."""
    body = b"".join(struct.pack("<HHL", tag, kind, 1) + value for tag, kind, value in entries)
    head = b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries))
    return head + body + bytes(4)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize(
    ("exif", "size"),
    [
        # A width of -1, which cannot be written again: the turn is known all the same.
        (exif_of(TURNED, (0x0100, 9, struct.pack("<l", -1))), (10, 20)),
        (b"Exif\0\0II*\0", (20, 10)),
        (exif_of(TURNED)[:20], (20, 10)),
        (exif_of((0x0112, 2, b"6\0\0\0")), (20, 10)),
        (exif_of((0x0112, 3, struct.pack("<HH", 66, 0))), (20, 10)),
    ],
)
def test_odd_exif_costs_no_picture(tmp_path, kind, exif, size):
    picture = Image.new("RGB", (20, 10), "white")
    path = tmp_path / f"odd.{kind.lower()}"
    path.write_bytes(encode(picture, kind, exif=exif))
    assert read_photo(path).shape == (size[1], size[0], 3) and photo_size(path) == size


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": exif_of(TURNED)}])
def test_the_size_of_a_jpeg_is_read_from_its_header(options):
    data = encode(Image.new("RGB", (33, 77)), "JPEG", **options)
    assert jpeg_size(data) == (33, 77)
    # The stream of the picture may be missing, a header may not.
    assert jpeg_size(data[: data.index(b"\xff\xda")]) == (33, 77)
    for nothing in (b"", data[:20], b"\x89PNG" + data, b"\xff\xd8" + bytes(50)):
        assert jpeg_size(nothing) is None


def test_a_jpeg_beyond_100_megapixels_is_refused_by_its_header():
    data = bytearray(encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 11_000, 11_000)
    with pytest.raises(CorpusError, match="x.jpg: the picture is 11000x11000, more than 100 mega"):
        decode_jpeg(bytes(data), "x.jpg")


@pytest.mark.parametrize("name", ["text", "empty", "cut", "png"])
def test_what_is_no_whole_picture_is_refused_in_one_line_with_its_name(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    jpeg, png = encode(Image.fromarray(noise), "JPEG"), encode(Image.fromarray(noise))
    data = {"text": b"hello", "empty": b"", "cut": jpeg[:1500], "png": png[:1500]}[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(CorpusError) as caught:
        read_photo(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message


def test_a_missing_photograph_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"gone\.jpg: cannot be read \(No such file"):
        read_photo(tmp_path / "gone.jpg")


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 50)
    with pytest.raises(CorpusError, match="10x6 is more than 100 megapixels"):
        decode_photo(encode(Image.fromarray(RAMP)), "bomb.png")


def test_a_jpeg_keeps_red_edges_sharp():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 15:] = (255, 0, 0)
    found = decode_jpeg(encode_jpeg(pixels)).astype(int)
    # With halved colour resolution the columns beside the edge would be mixed.
    assert np.abs(found - pixels)[:, [13, 14, 15, 16]].mean() < 6


def test_a_broken_jpeg_of_a_shard_is_named():
    with pytest.raises(CorpusError, match="shard 3: the picture is not a readable JPEG"):
        decode_jpeg(b"", "shard 3")


def test_shrinking_averages_areas():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    small = resize_pixels(checks[..., None].repeat(3, -1).astype(np.uint8), 32)
    assert np.abs(small.astype(int) - 127.5).max() <= 1


def test_a_grid_has_white_gaps_and_room_for_short_rows():
    face = np.zeros((4, 4, 3), np.uint8)
    sheet = make_grid([[face, face], [face]], gap=2)
    assert sheet.shape == (14, 14, 3)
    assert sheet[3, 3].tolist() == [0, 0, 0]
    assert sheet[9, 9].tolist() == [255, 255, 255] and sheet[0, 0].tolist() == [255, 255, 255]
