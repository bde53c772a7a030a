"""Pictures inside videos: the right one, decoded in order, and a clear word where there is none."""

import concurrent.futures
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from films import number_shown, write_film

from norface.data import video
from norface.data.records import StoredPicture
from norface.data.video import VideoFrame, count_frames
from norface.errors import CorpusError


@pytest.fixture
def film(tmp_path):
    return write_film(tmp_path / "LeftVideoSN001_comp.avi", 20)


@pytest.mark.parametrize(
    ("code", "name"), [("MJPG", "a.avi"), ("mp4v", "a.mp4"), ("XVID", "b.avi")]
)
def test_every_picture_is_the_one_of_its_number(tmp_path, code, name):
    path = write_film(tmp_path / name, 20, code=code)
    assert count_frames(path) == 20
    shown = [number_shown(VideoFrame(path, number).read()) for number in range(20)]
    assert shown == list(range(20))


def test_skipping_going_back_and_reading_twice_give_the_same_pictures(film):
    order = [3, 4, 9, 9, 2, 19, 0, 0, 1]
    assert [number_shown(VideoFrame(film, number).read()) for number in order] == order


def test_a_picture_is_rgb_of_its_own_and_a_small_stored_picture(film):
    frame = VideoFrame(film, 7)
    assert isinstance(frame, StoredPicture)
    pixels = frame.read()
    assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
    pixels[:] = 0
    assert number_shown(frame.read()) == 7
    assert len(pickle.dumps(frame)) < 400 and pickle.loads(pickle.dumps(frame)) == frame
    assert str(frame) == f"{film}, picture 7 from 0"


def test_a_row_of_pictures_opens_the_video_once_and_decodes_each_once(film, monkeypatch):
    opened, grabs = [], []

    class Counted:
        """The real capture, counting."""

        def __init__(self, capture):
            self.capture = capture

        def grab(self):
            grabs.append(1)
            return self.capture.grab()

        def __getattr__(self, name):
            return getattr(self.capture, name)

    really_open = video._open
    monkeypatch.setattr(
        video, "_open", lambda path: opened.append(path) or Counted(really_open(path))
    )
    for number in (0, 1, 2, 5, 5, 6):
        VideoFrame(film, number).read()
    assert opened == [film] and len(grabs) == 7
    VideoFrame(film, 1).read()
    assert len(opened) == 2 and len(grabs) == 9


def test_two_videos_in_turn_and_a_video_written_anew_are_not_mixed_up(tmp_path, film):
    other = write_film(tmp_path / "other.avi", 5, first=20)
    assert [number_shown(VideoFrame(p, 2).read()) for p in (film, other, film)] == [2, 22, 2]
    write_film(film, 6, first=10)
    assert number_shown(VideoFrame(film, 2).read()) == 12
    assert number_shown(VideoFrame(film, 3).read()) == 13


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_read_on_their_own_while_this_one_reads_too(film, method):
    assert number_shown(VideoFrame(film, 4).read()) == 4
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        futures = [pool.submit(VideoFrame(film, number).read) for number in range(5, 17)]
        assert number_shown(VideoFrame(film, 5).read()) == 5
        assert [number_shown(one.result()) for one in futures] == list(range(5, 17))
    assert number_shown(VideoFrame(film, 6).read()) == 6


def test_a_film_of_too_large_pictures_is_refused_before_one_is_decoded(film, monkeypatch):
    height, width = VideoFrame(film, 0).read().shape[:2]
    other = film.with_name("other.avi")
    other.write_bytes(film.read_bytes())
    monkeypatch.setattr(video, "MAX_PIXELS", width * height)
    assert count_frames(film) == 20
    monkeypatch.setattr(video, "MAX_PIXELS", width * height - 1)
    for read in (lambda: count_frames(other), VideoFrame(other, 0).read):
        with pytest.raises(CorpusError, match=f"other.avi: pictures of {width}x{height} are more"):
            read()


def test_a_missing_file_a_text_and_an_empty_file_are_refused_by_name(tmp_path):
    (tmp_path / "text.avi").write_text("I am a text")
    (tmp_path / "empty.avi").write_bytes(b"")
    for name, message in (
        ("gone.avi", "gone.avi: cannot be read .No such file"),
        ("text.avi", "text.avi: not a video in a known format, or damaged"),
        ("empty.avi", "empty.avi: not a video in a known format, or damaged"),
    ):
        with pytest.raises(CorpusError, match=message):
            count_frames(tmp_path / name)
        with pytest.raises(CorpusError, match=message):
            VideoFrame(tmp_path / name, 0).read()


def test_a_numbered_name_is_not_taken_for_a_series_of_pictures(tmp_path):
    import cv2

    for number in range(3):
        cv2.imwrite(str(tmp_path / f"f{number:03d}.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(CorpusError, match="cannot be read"):
        count_frames(tmp_path / "f%03d.png")


def test_a_short_video_says_how_far_it_goes(film):
    with pytest.raises(CorpusError, match=r"picture 20 \(from 0\) cannot be read, .* 20 pictures"):
        VideoFrame(film, 20).read()
    with pytest.raises(CorpusError, match="picture -1 asked for; they count from 0"):
        VideoFrame(film, -1).read()
    assert number_shown(VideoFrame(film, 19).read()) == 19


def test_a_cut_video_gives_its_whole_pictures_and_no_other(tmp_path, film):
    data = film.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: int(len(data) * 0.8)])
    shown = []
    with pytest.raises(CorpusError, match="cut.avi: picture .* ends or is damaged after"):
        for number in range(count_frames(cut)):
            shown.append(number_shown(VideoFrame(cut, number).read()))
    assert 3 < len(shown) < 20 and shown == list(range(len(shown)))


def test_a_damaged_picture_never_shifts_those_behind_it(tmp_path, film):
    data = bytearray(film.read_bytes())
    starts = [i for i in range(len(data) - 2) if data[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 20
    data[starts[5] : starts[6] - 8] = bytes(starts[6] - 8 - starts[5])
    broken = tmp_path / "broken.avi"
    broken.write_bytes(data)
    assert [number_shown(VideoFrame(broken, number).read()) for number in range(5)] == list(
        range(5)
    )
    for number in (5, 6, 19):
        with pytest.raises(CorpusError, match="damaged after 5 pictures"):
            VideoFrame(broken, number).read()


def test_a_video_without_a_count_in_its_header_is_counted(tmp_path, film):
    # Motion JPEG without a container: pictures in a row, no header at all.
    data = film.read_bytes()
    starts = [i for i in range(len(data) - 2) if data[i : i + 3] == b"\xff\xd8\xff"]
    ends = [data.index(b"\xff\xd9", start) + 2 for start in starts]
    raw = Path(tmp_path / "raw.mjpeg")
    raw.write_bytes(b"".join(data[a:b] for a, b in zip(starts, ends, strict=True)))
    assert count_frames(raw) == 20
    assert number_shown(VideoFrame(raw, 11).read()) == 11
