"""Pictures inside zip archives: the right one, and a clear word where there is none."""

import concurrent.futures
import multiprocessing
import pickle
import zipfile

import numpy as np
import pytest

from norface.data import archives
from norface.data.archives import ZippedPicture, list_members
from norface.data.records import StoredPicture
from norface.errors import CorpusError
from norface.images import encode_jpeg


@pytest.fixture
def archive(tmp_path):
    """F001.zip with six pictures; number n is red of 30 n."""
    path = tmp_path / "F001.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number in reversed(range(6)):
            pixels = np.full((16, 16, 3), (30 * number, 40, 200), np.uint8)
            file.writestr(f"F001/T1/{number:04d}.jpg", encode_jpeg(pixels))
    return path


def number_of(pixels):
    assert pixels.shape == (16, 16, 3) and abs(pixels[..., 2].mean() - 200) < 6
    return round(pixels[..., 0].mean() / 30)


def test_members_are_listed_in_order_and_read_in_any(archive):
    names = list_members(archive)
    assert names == [f"F001/T1/{number:04d}.jpg" for number in range(6)]
    order = [0, 5, 2, 2, 1]
    assert [number_of(ZippedPicture(archive, names[n]).read()) for n in order] == order
    picture = ZippedPicture(archive, names[0])
    assert isinstance(picture, StoredPicture) and pickle.loads(pickle.dumps(picture)) == picture
    assert str(picture) == f"{archive}/F001/T1/0000.jpg"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_read_on_their_own_while_this_one_reads_too(archive, method):
    pictures = [ZippedPicture(archive, name) for name in list_members(archive)]
    assert number_of(pictures[3].read()) == 3
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        futures = [pool.submit(pictures[n].read) for n in [0, 1, 2, 3, 4, 5] * 3]
        assert [number_of(one.read()) for one in pictures] == list(range(6))
        assert [number_of(one.result()) for one in futures] == list(range(6)) * 3


def test_a_member_that_would_fill_the_memory_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 3_000_000)
    with zipfile.ZipFile(tmp_path / "F001.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("F001/T1/0.jpg", bytes(3_000_001))
        file.writestr("F001/T1/1.jpg", bytes(3_000_000))
    assert (tmp_path / "F001.zip").stat().st_size < 10_000
    with pytest.raises(CorpusError, match="F001/T1/0.jpg: unpacks to 3 MB, no photograph; refused"):
        ZippedPicture(tmp_path / "F001.zip", "F001/T1/0.jpg").read()
    with pytest.raises(CorpusError, match="not a picture in a known format"):
        ZippedPicture(tmp_path / "F001.zip", "F001/T1/1.jpg").read()


def test_what_cannot_be_read_is_said_by_name(tmp_path, archive):
    (tmp_path / "text.zip").write_text("I am a text")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("T1/1.jpg", b"no picture")
    data = bytearray(archive.read_bytes())
    start = data.index(b"F001/T1/0005.jpg") + 40
    data[start : start + 20] = bytes(20)
    (tmp_path / "damaged.zip").write_bytes(data)
    for name, member, message in (
        ("gone.zip", "a", "gone.zip: cannot be read .No such file"),
        ("text.zip", "a", "text.zip: not a zip archive, or damaged"),
        ("F001.zip", "a", "F001.zip/a: is not in the archive"),
        ("other.zip", "T1/1.jpg", "other.zip/T1/1.jpg: not a picture"),
        ("damaged.zip", "F001/T1/0005.jpg", "damaged.zip/F001/T1/0005.jpg: damaged"),
    ):
        with pytest.raises(CorpusError, match=message):
            ZippedPicture(tmp_path / name, member).read()
    assert number_of(ZippedPicture(tmp_path / "damaged.zip", "F001/T1/0004.jpg").read()) == 4
    for name in ("gone.zip", "text.zip"):
        with pytest.raises(CorpusError, match=name):
            list_members(tmp_path / name)
