"""CASIA-WebFace from an archive of hand-built records and from folders."""

import struct

import numpy as np
import pytest

from norface.data.corpora.base import open_corpus
from norface.data.corpora.webface import WebFaceReader
from norface.errors import CorpusError
from norface.images import encode_jpeg

MAGIC = b"\x0a\x23\xd7\xce"


def record(labels, picture=b""):
    """A record in the file, as MXNet writes it, from labels (a number, or a list)."""
    if isinstance(labels, list):
        body = struct.pack("<IfQQ", len(labels), 0, 0, 0) + struct.pack(f"<{len(labels)}f", *labels)
    else:
        body = struct.pack("<IfQQ", 0, labels, 0, 0)
    body += picture
    return MAGIC + struct.pack("<I", len(body)) + body + bytes(-len(body) % 4)


def face(red):
    return encode_jpeg(np.full((16, 16, 3), (red, 40, 90), np.uint8))


RECORDS = [
    record([4.0, 6.0]),  # three pictures, keys 1 to 3; six records in all
    record(7.0, face(10)),
    record([7.0, 1.0], face(80)),
    record(21.0, face(160)),
    record([1.0, 3.0]),  # identity: pictures 1 and 2
    record([3.0, 4.0]),
]


def write_archive(root, records=RECORDS, index=None):
    root.mkdir(exist_ok=True)
    (root / "train.rec").write_bytes(b"".join(records))
    starts = np.cumsum([0, *map(len, records)])
    lines = [f"{key}\t{start}" for key, start in enumerate(starts[:-1])]
    (root / "train.idx").write_text("\n".join(index(lines) if index else lines) + "\n")
    return root


def read(root):
    reader = open_corpus("webface", root)
    return list(reader.read()), reader.problems


def test_an_archive_gives_pictures_with_persons_and_no_record_of_headers(tmp_path):
    records, problems = read(write_archive(tmp_path))
    assert [one.key for one in records] == [
        "webface_7_picture_1", "webface_7_picture_2", "webface_21_picture_3",
    ]  # fmt: skip
    reds = [int(one.image.read()[8, 8, 0]) for one in records]
    assert reds == pytest.approx([10, 80, 160], abs=4)
    assert all(one.split == "" and one.emotion is None for one in records)
    assert problems == []


def test_an_archive_without_a_list_in_record_0_is_all_pictures(tmp_path):
    records, problems = read(write_archive(tmp_path, RECORDS[1:4]))
    assert [one.key for one in records] == [
        "webface_7_picture_0", "webface_7_picture_1", "webface_21_picture_2",
    ]  # fmt: skip
    assert problems == []


def test_labels_that_are_no_persons_and_empty_pictures_are_problems(tmp_path):
    odd = [
        record([6.0, 6.0]), record(7.5, face(1)), record(-1.0, face(1)), record(float("nan")),
        record(float("inf"), face(1)), record(3.0),
    ]  # fmt: skip
    reader = open_corpus("webface", write_archive(tmp_path, [*odd, record(0.0, face(1))]))
    with pytest.raises(CorpusError, match="holds no sample of webface; the first problem"):
        list(reader.read())
    problems = [what for _, what in reader.problems]
    assert problems == [
        "key 1: the label 7.5 is no person's number",
        "key 2: the label -1.0 is no person's number",
        "key 3: the label nan is no person's number",
        "key 4: the label inf is no person's number",
        "key 5: holds no picture",
    ]
    assert reader.problems[1].place.endswith(
        f"train.rec: record at byte {len(odd[0]) + len(odd[1])}"
    )


def test_a_truncated_archive_loses_its_last_records_and_says_so(tmp_path):
    write_archive(tmp_path)
    path = tmp_path / "train.rec"
    path.write_bytes(path.read_bytes()[: sum(map(len, RECORDS[:3])) + 100])
    records, problems = read(tmp_path)
    assert [one.frame for one in records] == [1, 2]
    assert "train.idx: key 3" in problems[0].place and "cut short" in problems[0].what
    assert [one.place.rsplit(" ", 1)[1] for one in problems[:3]] == ["3", "4", "5"]
    assert all("no record begins" in one.what for one in problems[1:3])


def test_an_idx_that_disagrees_with_its_archive_is_caught(tmp_path):
    start = len(RECORDS[0])
    moved = lambda lines: [*lines[:1], f"1\t{start + 4}", *lines[2:]]
    records, problems = read(write_archive(tmp_path, index=moved))
    assert [one.frame for one in records] == [2, 3]
    assert problems[0].what.endswith(f"no record begins at byte {start + 4}")
    end = start + len(RECORDS[1])
    assert f"bytes {start} to {end} hold nothing that" in problems[1].what

    without_last = lambda lines: lines[:3] + lines[4:]
    records, problems = read(write_archive(tmp_path, index=without_last))
    assert [one.frame for one in records] == [1, 2]
    assert any("the key 3 is missing" in one.what for one in problems)

    twice = lambda lines: [*lines, "1\t0"]
    records, problems = read(write_archive(tmp_path, index=twice))
    assert [one.frame for one in records] == [1, 2, 3]
    assert problems[0].place.endswith("train.idx:7") and "more than once" in problems[0].what


def test_keys_that_change_places_are_caught_by_the_identities(tmp_path):
    starts = [0, *np.cumsum(list(map(len, RECORDS)))]
    swapped = lambda lines: [*lines[:2], f"2\t{starts[3]}", f"3\t{starts[2]}", *lines[4:]]
    records, problems = read(write_archive(tmp_path, index=swapped))
    assert [one.subject for one in records] == ["7", "21", "7"]
    assert [one.what for one in problems] == [
        "the record 4 says that the pictures 1 to 2 show one person; their labels are 7, 21"
    ]


def test_identity_records_of_nonsense_are_problems_that_end(tmp_path):
    odd = [*RECORDS[:4], record([1e30, 1e38]), record(3.0)]
    records, problems = read(write_archive(tmp_path, odd))
    assert len(records) == 3
    assert [one.what for one in problems] == [
        "the record 5 should list a person's first and last key"
    ]


def test_record_0_must_be_there_and_make_sense(tmp_path):
    with pytest.raises(CorpusError, match="train.idx: has no record 0"):
        read(write_archive(tmp_path, index=lambda lines: lines[1:]))
    with pytest.raises(CorpusError, match="record 0 lists .*nan.*; expected whole numbers"):
        read(write_archive(tmp_path, [record([float("nan"), 6.0]), *RECORDS[1:]]))
    with pytest.raises(CorpusError, match="record 0 tells of 0 pictures"):
        read(write_archive(tmp_path, [record([1.0, 6.0]), *RECORDS[1:]]))
    (tmp_path / "train.rec").write_bytes(b"PK\3\4 this is a zip file")
    with pytest.raises(CorpusError, match="train.rec: record 0 is damaged"):
        read(tmp_path)


def test_an_archive_without_its_idx_is_refused(tmp_path):
    write_archive(tmp_path)
    (tmp_path / "train.idx").unlink()
    with pytest.raises(CorpusError, match="not a folder of webface: train.idx is missing"):
        read(tmp_path)


def test_folders_are_persons(tmp_path):
    for name in ("0000099/002.jpg", "0000099/001.jpg", "0000045/010.PNG", "0000045/a-b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    records, problems = read(tmp_path)
    assert [one.key for one in records] == [
        "webface_0000045_picture_10", "webface_0000045_a-b_0",
        "webface_0000099_picture_1", "webface_0000099_picture_2",
    ]  # fmt: skip
    assert records[0].image == tmp_path / "0000045" / "010.PNG"
    assert problems == []


def test_names_that_a_key_cannot_hold_stay_different_and_the_same_everywhere(tmp_path):
    for person in ("Ana_María", "Ana-María", "Ana-Mar-a"):
        (tmp_path / person).mkdir()
        (tmp_path / person / "1.jpg").write_bytes(b"")
    subjects = [one.subject for one in read(tmp_path)[0]]
    assert len(set(subjects)) == 3
    # printf 'Ana_María' | sha1sum
    assert {"Ana-Mar-a", "Ana-Mar-a-2f6ad81c"} < set(subjects)


def test_what_is_no_picture_of_a_person_is_a_problem(tmp_path):
    (tmp_path / "45").mkdir()
    (tmp_path / "46").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("45/1.jpg", "45/01.jpg", "45/Thumbs.db", "45/.hidden.jpg", "stray.jpg"):
        (tmp_path / name).write_bytes(b"")
    records, problems = read(tmp_path)
    assert [one.image.name for one in records] == ["01.jpg"]
    assert [(place.removeprefix(f"{tmp_path}/"), what) for place, what in problems] == [
        ("stray.jpg", "lies in no folder of a person; left out"),
        ("45/Thumbs.db", "is no photograph"),
        ("45/1.jpg", "the key webface_45_picture_1 comes more than once"),
        ("46", "holds no photograph"),
    ]


@pytest.mark.parametrize("name", ["readme.txt", "img_align_celeba/000001.jpg"])
def test_a_folder_of_neither_gets_the_expected_tree(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CorpusError, match="train.rec .* is missing; expected\nROOT/\n  train.rec"):
        read(tmp_path)


def test_published_counts_are_those_of_its_authors():
    assert WebFaceReader.published == {"samples": 494_414, "subjects": 10_575}
