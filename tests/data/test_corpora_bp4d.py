"""BP4D and BP4D+: hand-made folders with each oddity of the official ones, and each thing wrong."""

import re
from pathlib import Path

import pytest
from bp4d_trees import by_frame, pictures, read, table, with_rest, write
from films import number_shown, write_film

from norface.cli.main import main
from norface.data.corpora.base import open_corpus
from norface.data.labels import DETECTION_UNITS
from norface.data.video import VideoFrame
from norface.errors import ConfigError, CorpusError


@pytest.fixture
def root(tmp_path):
    """One sequence, F001 T1, frames 9 and 10 coded, 8 to 11 photographed."""
    table(tmp_path / "AUCoding/F001_T1.csv", {9: {12: 1}, 10: {4: 1, 23: 9}})
    pictures(tmp_path / "F001/T1", "08.jpg", "09.jpg", "10.jpg", "11.jpg")
    return tmp_path


def test_coded_frames_are_read_and_the_others_left_out_without_a_word(root):
    records, problems = read(root)
    assert [record.key for record in records] == ["bp4d_F001_T1_9", "bp4d_F001_T1_10"]
    nine, ten = records
    assert nine.image == root / "F001/T1/09.jpg" and ten.image == root / "F001/T1/10.jpg"
    units = {1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24}
    assert nine.presence == {unit: int(unit == 12) for unit in units}
    assert ten.presence == {unit: int(unit == 4) for unit in units - {23}}
    assert nine.intensity == {} and nine.emotion is None and nine.split == ""
    assert problems == []


def test_columns_are_found_by_name_and_not_by_position(root):
    # BP4D+ has AU4 in column 3 and AU7 in column 6.
    columns = [0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12]
    table(root / "AUCoding/F001_T1.csv", {9: {4: 1}, 10: {7: 1, 11: 1}}, columns)
    found = by_frame(read(root)[0])
    assert [unit for unit, value in found[9].presence.items() if value] == [4]
    assert [unit for unit, value in found[10].presence.items() if value] == [7]
    assert set(found[9].presence) == {1, 2, 4, 5, 6, 7, 9, 10, 12}
    table(root / "AUCoding/F001_T1.csv", {9: {7: 1}}, [0, 7, 1, 4])
    assert read(root)[0][0].presence == {7: 1, 1: 0, 4: 0}


def test_nine_means_not_coded_and_a_row_of_nines_is_no_sample(root):
    table(root / "AUCoding/F001_T1.csv", {9: {}, 10: {2: 1}}, default=9)
    records, problems = read(root)
    assert [(record.frame, record.presence) for record in records] == [(10, {2: 1})]
    assert problems == []


def test_zeros_before_a_number_may_differ_between_sequences_pictures_and_tables(root):
    table(root / "AUCoding/F001_T2.csv", {"0643": {1: 1}, 1000: {1: 0}})
    pictures(root / "F001/T2", "643.jpg", "1000.jpg")
    table(root / "AUCoding/M011_T1.csv", {732: {1: 1}})
    pictures(root / "M011/T1", "0732.jpg", "00733.JPG", "frame_9.png")
    records, problems = read(root)
    assert [record.key.removeprefix("bp4d_") for record in records[2:]] == [
        "F001_T2_643", "F001_T2_1000", "M011_T1_732",
    ]  # fmt: skip
    assert records[2].image.name == "643.jpg" and records[4].image.name == "0732.jpg"
    assert problems == []


@pytest.mark.parametrize(
    ("occurrence", "intensity"),
    [
        ("AUCoding", "AU-Intensity-Codes3.0"),
        ("AUCoding/AU_OCC", "AUCoding/AU_INT"),
        ("aucoding/Au_Occ", "aucoding/au_int"),
        ("AUCoding", "AU-INTENSITY-CODES3.0"),
    ],
)
def test_both_generations_of_folders_are_read_in_any_capitals(tmp_path, occurrence, intensity):
    table(tmp_path / occurrence / "f001_t1.CSV", {9: {12: 1}, 10: {12: 0}})
    for unit, text in (
        (6, "9,5\n10,0\n"), (10, "9,1\n10,9\n"), (12, "9,3\n10,9\n"), (14, "9,2\n10,2\n"),
        (17, "10,4\n"),
    ):  # fmt: skip
        write(tmp_path / intensity / f"AU{unit:02d}" / f"F001_T1_AU{unit:02d}.csv", text)
    pictures(tmp_path / "f001/t1", "9.JPG", "10.jpeg")
    records, problems = read(tmp_path)
    # 9 is not coded; AU17 has no line for frame 9.
    assert [record.intensity for record in records] == [
        {6: 5, 10: 1, 12: 3, 14: 2}, {6: 0, 14: 2, 17: 4},
    ]  # fmt: skip
    assert [record.presence[12] for record in records] == [1, 0]
    assert records[0].subject == "F001" and problems == []


def test_presence_is_never_made_of_intensity(root):
    write(root / "AU-Intensity-Codes3.0/AU12/F001_T1_AU12.csv", "9,1\n10,4\n11,5\n")
    table(root / "AUCoding/F001_T1.csv", {9: {12: 1}, 10: {12: 9}})
    found = by_frame(read(root)[0])
    assert (found[9].presence[12], found[9].intensity) == (1, {12: 1})
    assert 12 not in found[10].presence and found[10].intensity == {12: 4}
    # Frame 11 has an intensity alone.
    assert (found[11].presence, found[11].intensity) == ({}, {12: 5})


def test_a_coded_row_without_a_picture_is_one_problem_with_all_its_frames(root):
    table(root / "AUCoding/F001_T1.csv", {n: {} for n in (1, 2, 3, 9, 10, 20)})
    records, problems = read(root)
    assert [record.frame for record in records] == [9, 10]
    ((place, what),) = problems
    assert place == str(root / "AUCoding/F001_T1.csv")
    assert what == f"4 coded frames not used, no picture in {root}/F001/T1: 1-3, 20"


def test_a_table_without_pictures_and_pictures_without_a_table_are_problems(root):
    table(root / "AUCoding/M001_T8.csv", {5: {}, 6: {}})
    pictures(root / "M002/T2", "1.jpg")
    records, problems = read(root)
    assert len(records) == 2
    assert [what for _, what in problems] == [
        "there is no table M002_T2.csv; not used",
        "2 coded frames not used, there are no pictures of it: 5-6",
    ]


def test_pictures_may_lie_one_folder_below_or_anywhere(root, tmp_path_factory):
    (root / "2D").mkdir()
    (root / "F001").rename(root / "2D/F001")
    assert read(root)[0][0].image == root / "2D/F001/T1/09.jpg"
    other = tmp_path_factory.mktemp("other")
    (root / "2D/F001").rename(other / "F001")
    assert read(root, f"pictures={other}")[0][0].image == other / "F001/T1/09.jpg"
    with pytest.raises(CorpusError, match="F001/T1/2440.jpg is missing; expected"):
        read(root)
    with pytest.raises(CorpusError, match="pictures=nowhere: no such folder"):
        read(root, "pictures=nowhere")
    with pytest.raises(CorpusError, match="has neither F001/T1/2440.jpg nor 2F01_T1.avi"):
        read(root, f"pictures={root / 'AUCoding'}")


def test_photographs_in_two_places_must_be_chosen(root):
    pictures(root / "copy/F001/T1", "9.jpg", "10.jpg")
    with pytest.raises(CorpusError, match="photographs in .*copy; choose with pictures=FOLDER"):
        read(root)
    assert read(root, f"pictures={root / 'copy'}")[0][0].image == root / "copy/F001/T1/9.jpg"


def test_films_are_found_by_task_and_by_session_and_show_the_right_picture(tmp_path):
    sessions = {"01": 1, "03": 2, "07": 3, "08": 4, "09": 5, "10": 6, "11": 7, "13": 8}
    for session, task in sessions.items():
        table(tmp_path / f"AUCoding/F023_T{task}.csv", {3: {}, 4: {}})
        write_film(tmp_path / f"2F23_{session}.avi", 5, first=task)
    for name in ("2M01_T5.avi", "F002_T6.mp4"):
        write_film(tmp_path / name, 4, code="MJPG" if name.endswith("avi") else "mp4v")
    table(tmp_path / "AUCoding/M001_T5.csv", {1: {}, 2: {}})
    table(tmp_path / "AUCoding/F002_T6.csv", {4: {}})
    records, problems = read(tmp_path)
    assert problems == []
    # Frame 3 is the third picture; the film of task t starts with the number t.
    for record in records:
        if record.subject == "F023":
            assert number_shown(record.image.read()) == int(record.clip[1:]) + record.frame - 1
        else:
            assert number_shown(record.image.read()) == record.frame - 1
    assert len(records) == 2 * 8 + 2 + 1
    assert records[0].image == VideoFrame(tmp_path / "F002_T6.mp4", 3)


def test_pictures_taken_from_a_film_keep_their_sessions_number(root):
    table(root / "AUCoding/F023_T6.csv", {1: {}, 2: {}})
    pictures(root / "2F23_10", "000001.jpg", "000002.jpg")
    records, problems = read(root)
    assert [r.image.name for r in records[2:]] == ["000001.jpg", "000002.jpg"] and problems == []


def test_films_that_are_short_damaged_doubled_or_misnamed_are_problems(root):
    table(root / "AUCoding/M001_T1.csv", {n: {} for n in range(3, 8)})
    write_film(root / "2M01_T1.avi", 5)
    write_film(root / "2M01_01.avi", 9)
    table(root / "AUCoding/M002_T1.csv", {1: {}})
    write(root / "2M02_T1.avi", "no film")
    write_film(root / "2M03_02.avi", 2)
    records, problems = read(root)
    assert [r.frame for r in records if r.subject == "M001"] == [3, 4, 5, 6, 7]
    found = {Path(place).name: what for place, what in problems}
    assert found["2M01_T1.avi"].endswith("2M01_01.avi shows M001_T1 too; not used")
    assert found["2M02_T1.avi"] == "not a video in a known format, or damaged; copy it again"
    assert found["2M03_02.avi"] == "not named by a person and a task or session; not used"
    assert "1 coded frames not used, no picture in" in found["M002_T1.csv"]
    (root / "2M01_01.avi").unlink()
    records, problems = read(root)
    assert [r.frame for r in records if r.subject == "M001"] == [3, 4, 5]
    assert any(what.endswith("2M01_T1.avi: 6-7") for _, what in problems)


HEADER = "0,1,2,4,12\n"


@pytest.mark.parametrize(
    ("text", "place", "what", "kept"),
    [
        (HEADER + "9,1,0,0,2\n10,0,0,0,1\n", ":2", "AU12 is '2'; expected 0, 1 or 9", 2),
        (HEADER + "9,1,0,0,nan\n", ":2", "AU12 is 'nan'", 1),
        (HEADER + "9,1,0,0,\n", ":2", "AU12 is ''", 1),
        (HEADER + "9,1,0,0,-1\n", ":2", "AU12 is '-1'", 1),
        (HEADER + "9,1,0,0\n10,0,0,0,1\n", ":2", "12 columns where the header has 13", 1),
        (HEADER + "\n9,1,0,0,1,1\n10,0,0,0,1\n", ":3", "14 columns where the header has 13", 1),
        (HEADER + "nan,1,0,0,1\n10,0,0,0,1\n", ":2", "frame 'nan' is not a whole number", 1),
        (HEADER + "9.5,1,0,0,1\n10,0,0,0,1\n", ":2", "frame '9.5' is not a whole number", 1),
        (HEADER + "9,1,0,0,1\n09,0,0,0,1\n", ":3", "frame 9 comes a second time", 1),
        ("0,1,smile,12,2,4\n9,1,1,1,0,0\n", ":1", "column 'smile' names no action unit", 1),
        ("0,1,4,12\n9,1,1,1\n", ":1", "there is no column of AU2; not labelled in this table", 1),
        ("0,1,1,12\n9,1,1,1\n", ":1", "the column of AU1 comes twice: no header row?", None),
        ("9,1,0,0,1\n10,0,0,0,1\n", ":1", "headed '9', not as frame: no header row?", None),
        ("0,33,35\n9,1,1\n", ":1", "no column of a known action unit", None),
        ("", "", "an empty table", None),
    ],
)
def test_whatever_is_wrong_in_a_table_is_listed_with_its_line(root, text, place, what, kept):
    pictures(root / "F002/T1", "9.jpg", "10.jpg")
    whole = text.startswith("0,1,") and "1,1," not in text.splitlines()[0]
    path = write(root / "AUCoding/F002_T1.csv", with_rest(text) if whole else text)
    records, problems = read(root)
    (problem,) = problems
    assert problem.place == f"{path}{place}" and what in problem.what
    found = [record for record in records if record.subject == "F002"]
    assert len(found) == (kept or 0)
    if "AU12 is" in what:
        left = set(DETECTION_UNITS["bp4d"]) - {12}
        assert set(found[0].presence) == left, "a wrong code is no label, and takes none along"
    if "no column" in what and kept:
        assert 2 not in found[0].presence and found[0].presence[4] == 1


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("9,7", "intensity '7' of frame 9; expected 0 to 5"),
        ("9,6", "intensity '6' of frame 9"),
        ("9,-1", "intensity '-1' of frame 9; expected 0 to 5"),
        ("9,nan", "intensity 'nan' of frame 9"),
        ("9,inf", "intensity 'inf' of frame 9"),
        ("9,high", "intensity 'high' of frame 9"),
        ("9,", "intensity '' of frame 9"),
        ("9", "1 columns; expected frame and intensity"),
        ("9,1,1", "3 columns; expected frame and intensity"),
        ("x,1", "frame 'x' is not a whole number"),
        ("10,1", "frame 10 comes a second time"),
    ],
)
def test_whatever_is_wrong_with_an_intensity_is_listed_with_its_line(root, line, what):
    for unit in (6, 10, 14, 17):
        write(root / f"AUCoding/AU_INT/AU{unit:02d}/F001_T1_AU{unit:02d}.csv", "9,0\n10,0\n")
    path = write(root / "AUCoding/AU_INT/AU12/F001_T1_AU12.csv", f"10,3\n{line}\n")
    records, problems = read(root)
    (problem,) = problems
    assert problem.place == f"{path}:2" and what in problem.what
    assert [record.intensity.get(12) for record in records] == [None, 3]


def test_tables_that_are_missing_misplaced_or_misnamed_are_listed(root):
    folder = root / "AUCoding/AU_INT"
    for unit in (6, 10, 14):
        write(folder / f"AU{unit:02d}/F001_T1_AU{unit:02d}.csv", "9,0\n10,0\n")
    write(folder / "AU12/F001_T1_AU06.csv", "9,5\n10,5\n")
    write(root / "AUCoding/notes.csv", "a,b\n")
    table(root / "AUCoding/F001_T11.csv", {1: {}})
    table(root / "AUCoding/F083_T1.csv", {1: {}})
    table(root / "AUCoding/f001_t1.csv", {1: {}})
    pictures(root / "F001/T1", "0009.jpg", "thumb.jpg")
    pictures(root / "M059/T1", "1.jpg")
    (root / "AUCoding/F003_T1.csv").write_bytes(b"\xff\xfe\x00\x80")
    records, problems = read(root)
    assert all(record.intensity == {6: 0, 10: 0, 14: 0} for record in records)
    found = {f"{Path(place).parent.name}/{Path(place).name}": what for place, what in problems}
    assert found == {
        "AUCoding/AU_INT": "there is no folder AU17; AU17 has no intensities",
        "AU12/F001_T1_AU06.csv": "not named like F001_T1_AU12.csv; table not used",
        "/F001_T1": "there is no intensity table of AU12",
        "AUCoding/notes.csv": "not named like F001_T1.csv; table not used",
        "AUCoding/F001_T11.csv": "bp4d has tasks T1 to T8; table not used",
        "AUCoding/F083_T1.csv": "F083 is not in bp4d (F001 to F023, M001 to M018); table not used",
        "AUCoding/f001_t1.csv": "F001_T1.csv is a table of F001_T1 too; not used",
        "T1/thumb.jpg": "the name is not the number of a frame; picture not used",
        "T1/09.jpg": "frame 9 is also 0009.jpg; picture not used",
        "M059/T1": "M059 is not in bp4d (F001 to F023, M001 to M018); pictures not used",
        "AUCoding/F003_T1.csv": "not a text file; table not used",
        "/F003_T1": "there is no intensity table of AU6, AU10, AU12, AU14",
    }


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("AUCoding/F024_T1.csv", "F024 is not in bp4d (F001 to F023, M001 to M018)"),
        ("AUCoding/M019_T6.csv", "M019 is not in bp4d"),
        ("F001/T9", "bp4d has tasks T1 to T8"),
        ("F082/T1", "F082 is not in bp4d"),
    ],
)
def test_persons_and_tasks_of_bp4dplus_are_refused_since_its_f001_is_another(root, name, what):
    if name.endswith(".csv"):
        table(root / name, {1: {}})
    else:
        pictures(root / name, "1.jpg")
    with pytest.raises(CorpusError, match=re.escape(f"{root / name}: {what}")) as error:
        read(root)
    assert str(error.value).endswith(
        "read it as bp4dplus, and keep the two in folders of their own"
    )


def test_a_wrong_folder_gets_the_expected_tree(tmp_path, root, capsys):
    for folder, what in (
        (tmp_path / "gone", "gone: no such folder; give the root of bp4d"),
        (write(tmp_path / "file.csv", "x"), "is a file, not a folder"),
    ):
        with pytest.raises(CorpusError, match=what):
            read(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        CorpusError, match="AUCoding is missing; expected\nROOT/\n  AUCoding/F001_T1"
    ):
        read(empty)
    (empty / "AUCoding").mkdir()
    with pytest.raises(CorpusError, match="AUCoding/F001_T1.csv is missing; expected"):
        read(empty)
    with pytest.raises(ConfigError, match="picture"):
        read(root, "picture=x")
    assert main(["prepare", "bp4d", str(empty), str(tmp_path / "out")]) == 2
    assert "F001/T1/2440.jpg" in capsys.readouterr().err


def test_a_corpus_without_a_usable_frame_is_refused_with_its_first_problem(root):
    table(root / "AUCoding/F001_T1.csv", {1: {}})
    with pytest.raises(CorpusError, match="no sample of bp4d; the first problem: .*1 coded frames"):
        read(root)


def test_published_counts_are_those_of_the_papers():
    assert open_corpus("bp4d", ".").published == {"samples": 146_847, "subjects": 41}
    assert open_corpus("bp4dplus", ".").published == {"samples": 197_756, "subjects": 140}
