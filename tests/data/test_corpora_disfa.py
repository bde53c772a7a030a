"""DISFA and DISFA+: hand-made folders with each oddity of the official ones, and each fault."""

from pathlib import Path

import pytest
from films import number_shown, write_film

from norface.cli.main import main
from norface.data.corpora.base import open_corpus
from norface.data.corpora.disfa import SUBJECTS
from norface.data.video import VideoFrame
from norface.errors import ConfigError, CorpusError

UNITS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def label(root, subject, frames=4, **levels):
    """The twelve files of a person: zeros, but au12=[...] line by line."""
    for unit in UNITS:
        values = levels.get(f"au{unit}", [0] * frames)
        lines = [f"{frame},{value}\n" for frame, value in enumerate(values, 1)]
        write(root / "ActionUnit_Labels" / subject / f"{subject}_au{unit}.txt", "".join(lines))


def pictures(folder, *numbers, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number}.{suffix}").write_bytes(b"picture")


def read(root, *options, corpus="disfa"):
    reader = open_corpus(corpus, root, options)
    return list(reader.read()), reader.problems


@pytest.fixture
def root(tmp_path):
    """SN001 with four frames and the film of its left camera."""
    label(tmp_path, "SN001", au12=[0, 1, 2, 5], au1=[3, 0, 0, 0])
    write_film(tmp_path / "Videos_LeftCamera/LeftVideoSN001_comp.avi", 4)
    return tmp_path


def test_a_unit_is_present_from_intensity_two_on(root):
    records, problems = read(root)
    assert [record.key for record in records] == [f"disfa_SN001_left_{n}" for n in (1, 2, 3, 4)]
    assert [record.intensity[12] for record in records] == [0, 1, 2, 5]
    assert [record.presence[12] for record in records] == [0, 0, 1, 1]
    assert [record.presence[1] for record in records] == [1, 0, 0, 0]
    assert all(set(r.intensity) == set(r.presence) == set(UNITS) for r in records)
    assert problems == []


def test_line_one_is_the_first_picture_of_the_film(root):
    records, _ = read(root)
    assert [number_shown(record.image.read()) for record in records] == [0, 1, 2, 3]
    assert records[0].image == VideoFrame(root / "Videos_LeftCamera/LeftVideoSN001_comp.avi", 0)


def test_units_are_read_from_the_names_of_files_and_not_from_their_order(tmp_path):
    # Every unit has its own pattern; in the order of names, au12 comes before au2.
    levels = {f"au{unit}": [i % 6, (i + 3) % 6] for i, unit in enumerate(UNITS)}
    label(tmp_path, "SN032", **levels)
    write_film(tmp_path / "LeftVideoSN032_comp.avi", 2)
    first, second = read(tmp_path)[0]
    assert first.intensity == dict(zip(UNITS, [0, 1, 2, 3, 4, 5] * 2, strict=True))
    assert second.intensity == dict(zip(UNITS, [3, 4, 5, 0, 1, 2] * 2, strict=True))


@pytest.mark.parametrize(
    "film",
    [
        "Videos_RightCamera/RightVideoSN001_comp.avi",
        "Video_RightCamera/RightVideoSN001_Comp.avi",
        "VIDEOS_rightcamera/rightvideosn001_comp.AVI",
        "RightVideoSN001.mp4",
    ],
)
def test_the_camera_is_chosen_whatever_the_spelling(root, film):
    write_film(root / film, 4, first=10, code="mp4v" if film.endswith("mp4") else "MJPG")
    records, problems = read(root, "camera=right")
    assert [record.key for record in records] == [f"disfa_SN001_right_{n}" for n in (1, 2, 3, 4)]
    assert [number_shown(record.image.read()) for record in records] == [10, 11, 12, 13]
    assert number_shown(read(root)[0][0].image.read()) == 0
    assert problems == []


def test_the_names_of_labels_are_read_in_any_capitals(tmp_path):
    label(tmp_path, "SN002", 2, au4=[0, 4])
    (tmp_path / "ActionUnit_Labels").rename(tmp_path / "actionunit_labels")
    folder = tmp_path / "actionunit_labels/SN002"
    (folder / "SN002_au4.txt").rename(folder / "sn002_AU4.TXT")
    folder.rename(folder.with_name("sn002"))
    pictures(tmp_path / "SN002", 1, 2)
    records, problems = read(tmp_path)
    assert [record.intensity[4] for record in records] == [0, 4] and problems == []
    assert {record.subject for record in records} == {"SN002"}


@pytest.mark.parametrize(
    ("numbers", "option", "expected"),
    [
        ((0, 1, 2, 3), [], [0, 1, 2, 3]),
        ((1, 2, 3, 4), [], [1, 2, 3, 4]),
        ((0, 1, 2, 3), ["first_frame=0"], [0, 1, 2, 3]),
        ((1, 2, 3, 4), ["first_frame=1"], [1, 2, 3, 4]),
        # The first pictures are lost: only the option can tell.
        ((2, 3), ["first_frame=0"], [None, None, 2, 3]),
        ((2, 3), ["first_frame=1"], [None, 2, 3, None]),
    ],
)
def test_pictures_counted_from_zero_or_one_meet_the_same_labels(
    tmp_path, numbers, option, expected
):
    label(tmp_path, "SN001", au25=[5, 4, 3, 2])
    pictures(tmp_path / "frames/SN001", *numbers)
    records, problems = read(tmp_path, *option)
    shown = {record.frame: int(record.image.stem) for record in records}
    assert [shown.get(frame) for frame in (1, 2, 3, 4)] == expected
    assert {r.frame: r.intensity[25] for r in records} == {f: 6 - f for f in sorted(shown)}
    lost = [str(frame) for frame, number in enumerate(expected, 1) if number is None]
    if lost:
        (problem,) = problems
        assert f"{len(lost)} coded frames not used, no picture in" in problem.what
    else:
        assert problems == []


def test_one_person_without_the_first_picture_is_not_shifted_against_the_others(tmp_path):
    for subject, numbers in (("SN001", (0, 1, 2, 3)), ("SN002", (1, 2, 3))):
        label(tmp_path, subject)
        pictures(tmp_path / subject, *numbers)
    records, problems = read(tmp_path)
    assert [(r.frame, int(r.image.stem)) for r in records if r.subject == "SN002"] == [
        (2, 1), (3, 2), (4, 3),
    ]  # fmt: skip
    ((place, what),) = problems
    assert place.endswith("SN002") and what.endswith("SN002: 1")


def test_numbers_that_do_not_tell_where_they_start_must_be_explained(tmp_path):
    label(tmp_path, "SN001")
    pictures(tmp_path / "SN001", 2, 3)
    with pytest.raises(
        CorpusError, match="smallest number of a picture is 2; say with first_frame"
    ):
        read(tmp_path)
    with pytest.raises(ConfigError, match="first_frame"):
        read(tmp_path, "first_frame=2")
    with pytest.raises(ConfigError, match="camera"):
        read(tmp_path, "camera=middle")


def test_pictures_beyond_the_labels_and_labels_beyond_the_pictures_are_problems(tmp_path):
    label(tmp_path, "SN010", frames=3)
    pictures(tmp_path / "SN010", 1, 2, 3, 4)
    label(tmp_path, "SN011", frames=4)
    pictures(tmp_path / "SN011", 1, 2)
    label(tmp_path, "SN012", frames=2)
    pictures(tmp_path / "SN013", 1)
    records, problems = read(tmp_path)
    assert len(records) == 3 + 2
    labels = tmp_path / "ActionUnit_Labels"
    assert [tuple(problem) for problem in problems] == [
        (str(tmp_path / "SN013"), "there are no labels of SN013; pictures not used"),
        (
            str(tmp_path / "SN010"),
            f"1 pictures not used, no label in {labels}/SN010, frames 4 (counted from 1)",
        ),
        (
            str(labels / "SN011"),
            f"2 coded frames not used, no picture in {tmp_path}/SN011: 3-4",
        ),
        (str(labels / "SN012"), "2 coded frames not used, there are no pictures: 1-2"),
    ]


def test_folders_of_pictures_are_found_by_camera_or_must_be_chosen(tmp_path):
    label(tmp_path, "SN001", frames=2)
    pictures(tmp_path / "Frames_RightCamera/SN001", 1, 2)
    pictures(tmp_path / "images/left/LeftVideoSN001", "frame_1", "frame_2", suffix="jpg")
    assert read(tmp_path)[0][0].image.parent.name == "LeftVideoSN001"
    right = read(tmp_path, "camera=right")[0]
    assert right[0].image.parent.parent.name == "Frames_RightCamera" and right[0].clip == "right"
    pictures(tmp_path / "more/SN001", 0, 1)
    with pytest.raises(
        CorpusError, match="pictures in .*more, .*left; choose with pictures=FOLDER"
    ):
        read(tmp_path)
    chosen = read(tmp_path, f"pictures={tmp_path / 'more'}")[0]
    assert [r.image.stem for r in chosen] == ["0", "1"]
    with pytest.raises(CorpusError, match="pictures=none: no such folder"):
        read(tmp_path, "pictures=none")
    with pytest.raises(CorpusError, match="has no SN001/0.png; give another folder"):
        read(tmp_path, f"pictures={tmp_path / 'ActionUnit_Labels'}")


def test_pictures_can_be_chosen_over_films(root):
    pictures(root / "mine/SN001", 1, 2, 3, 4)
    assert isinstance(read(root)[0][0].image, VideoFrame)
    assert isinstance(read(root, f"pictures={root / 'mine'}")[0][0].image, Path)


@pytest.mark.parametrize(
    ("line", "place", "what"),
    [
        ("2,6", ":2", "intensity '6' of frame 2; expected 0 to 5"),
        ("2,9", ":2", "intensity '9' of frame 2"),
        ("2,-1", ":2", "intensity '-1' of frame 2"),
        ("2,nan", ":2", "intensity 'nan' of frame 2"),
        ("2,", ":2", "intensity '' of frame 2"),
        ("2", ":2", "1 columns; expected frame and intensity"),
        ("2,0,1", ":2", "3 columns"),
        ("two,0", ":2", "frame 'two' is not a whole number"),
        ("1,0", ":2", "frame 1 comes a second time"),
    ],
)
def test_whatever_is_wrong_in_a_file_is_listed_with_its_line(root, line, place, what):
    path = write(root / "ActionUnit_Labels/SN001/SN001_au12.txt", f"1,0\n{line}\n3,2\n4,5\n\n")
    records, problems = read(root)
    wrong, absent = problems
    assert wrong.place == f"{path}{place}" and what in wrong.what
    assert tuple(absent) == (str(path), "no intensity of AU12 in frames 2")
    assert [record.frame for record in records] == [1, 2, 3, 4]
    assert set(records[1].intensity) == set(UNITS) - {12}, "a wrong level takes no other along"
    assert [record.intensity.get(12) for record in records] == [0, None, 2, 5]


def test_files_that_are_missing_misnamed_or_of_nobody_are_listed(root):
    labels = root / "ActionUnit_Labels"
    (labels / "SN001/SN001_au6.txt").unlink()
    (labels / "SN001/SN001_au26.txt").unlink()
    (labels / "SN001/SN001_au5.txt").write_bytes(b"\xff\xfe\x00\x80")
    write(labels / "SN001/SN001_au10.txt", "1,1\n")
    write(labels / "SN001/SN001_au01.txt", "1,1\n2,1\n3,1\n4,1\n")
    write(labels / "SN001/SN002_au1.txt", "1,1\n")
    write(labels / "SN014/SN014_au1.txt", "1,1\n")
    write_film(root / "Videos_LeftCamera/LeftVideoSN015_comp.avi", 2)
    write_film(root / "LeftVideoSN001.avi", 4)
    records, problems = read(root)
    assert all(set(r.intensity) == set(UNITS) - {5, 6, 26} for r in records) and len(records) == 4
    found = {Path(place).name: what for place, what in problems if "au5" not in place}
    assert found == {
        "SN001": "there is no table of AU6, AU26",
        "SN001_au10.txt": "disfa does not code AU10; not used",
        "SN001_au1.txt": "SN001_au01.txt is of AU1 too; not used",
        "SN002_au1.txt": "not named like SN001_au1.txt; not used",
        "SN014_au1.txt": "SN014 is not in disfa; not used",
        "LeftVideoSN015_comp.avi": "SN015 is not in disfa; not used",
        "LeftVideoSN001_comp.avi": f"{root}/LeftVideoSN001.avi shows SN001 too; not used",
    }
    assert [what for place, what in problems if "au5" in place] == [
        "not a text file; table not used",
        "no intensity of AU5 in frames 1-4",
    ]


def test_a_damaged_film_is_a_problem_and_the_others_are_read(root):
    label(root, "SN002")
    write(root / "Videos_LeftCamera/LeftVideoSN002_comp.avi", "no film")
    records, problems = read(root)
    assert {record.subject for record in records} == {"SN001"}
    assert [what.split(";")[0] for _, what in problems] == [
        "not a video in a known format, or damaged",
        f"4 coded frames not used, no picture in {root}/Videos_LeftCamera/"
        "LeftVideoSN002_comp.avi: 1-4",
    ]


def test_a_wrong_folder_gets_the_expected_tree(tmp_path, root, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CorpusError, match="ActionUnit_Labels is missing; expected\nROOT/\n"):
        read(empty)
    (empty / "ActionUnit_Labels").mkdir()
    with pytest.raises(CorpusError, match="ActionUnit_Labels/SN001/SN001_au1.txt is missing"):
        read(empty)
    label(empty, "SN001")
    with pytest.raises(CorpusError, match="Videos_LeftCamera/LeftVideoSN001_comp.avi is missing"):
        read(empty)
    with pytest.raises(CorpusError, match="Videos_RightCamera/RightVideoSN001_comp.avi is missing"):
        read(root, "camera=right")
    assert main(["prepare", "disfa", str(empty), str(tmp_path / "out")]) == 2
    assert "SN001_au1.txt ... SN001_au26.txt" in capsys.readouterr().err


def test_the_published_numbers_and_people():
    reader = open_corpus("disfa", ".")
    assert reader.published == {"samples": 130_814, "subjects": 27}
    # 4,845 frames a person, one less for SN010.
    assert reader.published["samples"] == 27 * 4845 - 1
    assert len(SUBJECTS) == 27 and not {"SN014", "SN015", "SN019", "SN020", "SN022"} & {*SUBJECTS}


@pytest.fixture
def plus(tmp_path):
    """One trial of SN003 in DISFA+, with its comment lines."""
    for unit in UNITS:
        lines = "".join(f"{n:03d}.jpg {(n + unit) % 6}\n" for n in range(3))
        write(tmp_path / f"Labels/SN003/A2_AU1_TrialNo_1/AU{unit}.txt", f"# {unit}\n{lines}")
    pictures(tmp_path / "Images/SN003/A2_AU1_TrialNo_1", "000", "001", "002", suffix="jpg")
    return tmp_path


def test_disfaplus_is_read_trial_by_trial(plus):
    records, problems = read(plus, corpus="disfaplus")
    assert [record.key for record in records] == [
        f"disfaplus_SN003_A2-AU1-TrialNo-1_{n}" for n in range(3)
    ]
    assert records[1].image == plus / "Images/SN003/A2_AU1_TrialNo_1/001.jpg"
    assert records[1].intensity == {unit: (1 + unit) % 6 for unit in UNITS}
    assert records[1].presence == {unit: int((1 + unit) % 6 >= 2) for unit in UNITS}
    assert problems == []


def test_what_disfaplus_lacks_is_listed(plus):
    trial = plus / "Labels/SN003/A2_AU1_TrialNo_1"
    (trial / "AU26.txt").unlink()
    write(trial / "AU25.txt", "000.jpg 1\n001.jpg 7\n002.jpg 3\n003.jpg 1\n")
    (plus / "Labels/SN003/empty").mkdir()
    write(plus / "Labels/SN002/x/AU1.txt", "000.jpg 1\n")
    write(plus / "Labels/SN003/y/AU1.txt", "000.jpg 1\n")
    records, problems = read(plus, corpus="disfaplus")
    assert [record.intensity.get(25) for record in records] == [1, None, 3]
    whats = [what for _, what in problems]
    for expected in (
        "SN002 is not in DISFA+; not used",
        "there is no AU1.txt; not used",
        "there is no table of AU26",
        "intensity '7' of frame 1; expected 0 to 5",
        "no intensity of AU25 in frames 1",
        "no intensity of AU4 in frames 3",
        "1 coded frames not used, there are no pictures: 0",
    ):
        assert expected in whats
    assert any(what.startswith("1 coded frames not used, no picture in") for what in whats)


def test_a_wrong_folder_of_disfaplus_gets_the_expected_tree(plus):
    with pytest.raises(
        CorpusError, match="Labels is missing; expected\nROOT/\n  Labels/SN001/TRIAL"
    ):
        read(plus / "Images", corpus="disfaplus")
