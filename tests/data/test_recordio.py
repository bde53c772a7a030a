"""RecordIO archives against bytes that are put together by hand."""

import pickle
import struct

import numpy as np
import pytest

from norface.data.recordio import (
    Place,
    RecordFile,
    RecordioPicture,
    RecordWriter,
    pack_picture,
    pack_record,
    read_offsets,
)
from norface.data.records import StoredPicture
from norface.errors import CorpusError
from norface.images import encode_jpeg

MAGIC = bytes([0x0A, 0x23, 0xD7, 0xCE])
"0xced7230a in little endian."


def part(flag, data):
    """A part as the format says: magic, flag in the three upper bits, length, zeros to 4."""
    word = flag * 2**29 + len(data)
    return MAGIC + struct.pack("<I", word) + data + bytes(-len(data) % 4)


def picture_record(label, jpeg=b"JPEG", *more):
    head = struct.pack("<IfQQ", len(more) and len(more) + 1, label, 7, 0)
    labels = struct.pack(f"<{len(more) + 1}f", label, *more) if more else b""
    return head + labels + jpeg


@pytest.fixture
def write(tmp_path):
    def write(data, name="train.rec"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_a_whole_record_is_read_with_its_place_and_its_header(write):
    record = picture_record(12.0, b"12345")
    with RecordFile(write(part(0, record) + part(0, b"next"))) as file:
        place, header = file.peek(0)
        # 8 bytes of head, 24 of the picture's header, 5 of data, 3 of filling.
        assert place == Place(0, 40)
        assert header == ((12.0,), False, 7, 5)
        assert file.read(place) == record
        assert file.measure(40) == Place(40, 12)


def test_labels_that_are_a_list_stand_behind_the_header(write):
    record = picture_record(3.0, b"abcd", 0.5, 0.25)
    assert len(record) == 24 + 3 * 4 + 4
    with RecordFile(write(part(0, record))) as file:
        _, header = file.peek(0)
    assert header.labels == (3.0, 0.5, 0.25) and header.is_list and header.picture_size == 4


def test_a_long_list_of_labels_is_read_whole(write):
    labels = [float(number) for number in range(100)]
    with RecordFile(write(part(0, picture_record(labels[0], b"x", *labels[1:])))) as file:
        assert list(file.peek(0)[1].labels) == labels


def test_parts_are_joined_by_the_magic_number_that_the_writer_left_out(write):
    head = picture_record(1.0, b"")
    data = part(1, head + b"AAAA") + part(2, b"") + part(2, b"BBBB") + part(3, b"CC")
    with RecordFile(write(data + part(0, b"next"))) as file:
        place, header = file.peek(0)
        assert place == Place(0, len(data))
        assert file.read(place) == head + b"AAAA" + MAGIC + MAGIC + b"BBBB" + MAGIC + b"CC"
        assert header.labels == (1.0,) and header.picture_size == 4 + 4 + 4 + 4 + 4 + 2
        assert file.read(file.measure(place.length)) == b"next"


@pytest.mark.parametrize(
    ("record", "packed"),
    [
        (b"", part(0, b"")),
        (b"abcde", part(0, b"abcde")),
        (MAGIC, part(1, b"") + part(3, b"")),
        (b"abcd" + MAGIC + b"e", part(1, b"abcd") + part(3, b"e")),
        (b"abcd" + MAGIC * 2 + b"efgh" + MAGIC,
         part(1, b"abcd") + part(2, b"") + part(2, b"efgh") + part(3, b"")),
        # Not at a multiple of 4: it stays.
        (b"ab" + MAGIC + b"cd", part(0, b"ab" + MAGIC + b"cd")),
    ],
)  # fmt: skip
def test_a_record_is_cut_where_the_magic_number_stands_at_a_multiple_of_four(write, record, packed):
    assert pack_record(record) == packed
    with RecordFile(write(packed)) as file:
        assert file.read(file.measure(0)) == record


def test_packed_pictures_have_the_bytes_of_the_format():
    assert pack_picture(12.0, b"JPEG", identifier=7) == picture_record(12.0)
    listed = pack_picture((3.0, 0.5), b"JPEG", identifier=7)
    assert listed == struct.pack("<IfQQ", 2, 0.0, 7, 0) + struct.pack("<ff", 3.0, 0.5) + b"JPEG"


def test_a_file_cut_anywhere_is_cut_short_or_has_no_record_there(write):
    whole = part(1, b"AAAA" * 8) + part(3, b"BBBB")
    for length in range(len(whole)):
        with (
            RecordFile(write(whole[:length])) as file,
            pytest.raises(CorpusError, match="cut short|no record begins|no further part"),
        ):
            file.measure(0)


@pytest.mark.parametrize(
    ("data", "offset", "what"),
    [
        (b"\0" * 16, 0, "no record begins at byte 0"),
        (part(0, b"abcd"), 4, "no record begins at byte 4"),
        (part(0, b"abcd"), 12, "no record begins at byte 12"),
        (part(2, b"abcd"), 0, "no record begins at byte 0"),
        (part(3, b"abcd"), 0, "no record begins at byte 0"),
        (part(1, b"abcd") + part(0, b"efgh"), 0, "the record at byte 0 has no further part at 12"),
        (part(1, b"abcd"), 0, "the record at byte 0 has no further part at 12"),
    ],
)
def test_what_is_no_record_is_named_with_its_byte(write, data, offset, what):
    with RecordFile(write(data)) as file, pytest.raises(CorpusError, match=what) as caught:
        file.measure(offset)
    assert "train.rec" in str(caught.value)


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (b"short", "5 bytes hold no picture's header of 24"),
        (struct.pack("<IfQQ", 9, 0, 0, 0) + b"abcd", "says that 9 labels follow, but has 28 bytes"),
        (struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0), "labels follow, but has 24 bytes"),
    ],
)
def test_a_record_without_a_picture_header_is_named(write, record, what):
    with RecordFile(write(part(0, record))) as file, pytest.raises(CorpusError, match=what):
        file.peek(0)


def test_a_missing_archive_is_one_line(tmp_path):
    with pytest.raises(CorpusError, match=r"train.rec: cannot be read \(No such file"):
        RecordFile(tmp_path / "train.rec")


def test_a_stored_picture_travels_and_is_read_where_it_lies(write):
    pixels = np.full((20, 30, 3), (200, 40, 90), np.uint8)
    before = part(0, b"something before")
    data = part(0, picture_record(4.0, encode_jpeg(pixels), 1.0))
    picture = RecordioPicture(write(before + data), len(before), len(data))
    assert isinstance(picture, StoredPicture)
    found = pickle.loads(pickle.dumps(picture)).read()
    assert found.shape == (20, 30, 3)
    assert np.abs(found.astype(int) - pixels).max() < 6
    assert str(picture).endswith(f"train.rec: record at byte {len(before)}")


def test_a_stored_picture_that_is_none_is_named(write):
    data = part(0, picture_record(4.0, b"not a JPEG"))
    with pytest.raises(CorpusError, match="train.rec: record at byte 0: not a picture"):
        RecordioPicture(write(data), 0, len(data)).read()


def test_an_idx_is_read_and_its_wrong_lines_are_numbered(tmp_path):
    path = tmp_path / "train.idx"
    path.write_text("0\t0\n1\t36\n1\t40\nx\t44\n2\n3\t80\n4\t-1\n")
    offsets, wrong = read_offsets(path)
    assert offsets == {0: 0, 1: 36, 3: 80}
    assert [line for line, _ in wrong] == [3, 4, 5, 7]
    assert wrong[0][1] == "the key 1 comes more than once"
    assert wrong[1][1] == "found 'x\t44'; expected a key and an offset"


def test_an_idx_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "train.idx"
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(CorpusError, match="not a text of lines"):
        read_offsets(path)


def test_a_written_archive_has_the_offsets_of_its_idx(tmp_path):
    records = [b"a" * size for size in (0, 1, 30)] + [b"abcd" + MAGIC + b"x"]
    with RecordWriter(tmp_path / "train.rec") as writer:
        for key, record in enumerate(records):
            writer.write(key, record)
    assert (tmp_path / "train.idx").read_text() == "0\t0\n1\t8\n2\t20\n3\t60\n"
    offsets, wrong = read_offsets(tmp_path / "train.idx")
    assert not wrong
    with RecordFile(tmp_path / "train.rec") as file:
        assert [file.read(file.measure(offset)) for offset in offsets.values()] == records
