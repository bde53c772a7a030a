"""Synthetic faces as BP4D, BP4D+, DISFA and DISFA+: the readers find what was written."""

import csv
import dataclasses
import functools
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from norface.cli.main import main
from norface.data.corpora.base import open_corpus
from norface.data.folds import load_folds
from norface.data.video import VideoFrame, count_frames
from norface.errors import ConfigError, CorpusError
from norface.images import read_photo
from norface.synthetic.layouts.base import LayoutSettings, write_layout
from norface.synthetic.renderer import render
from norface.synthetic.sampling import draw_frame

SIDE, FRAMES = 64, 4
SUBJECTS = {"bp4d": 2, "bp4dplus": 2, "disfa": 10, "disfaplus": 2}


TRIALS = ("A1-AU1-TrialNo-1", "A2-AU1-TrialNo-1")
TASK = {"disfa": lambda clip: 0, "disfaplus": TRIALS.index}
"Corpora that count frames from 1 => which of a person's tasks a clip is."


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Corpus name => (folder, expected records by key), written once."""

    @functools.cache
    def write(name):
        root = tmp_path_factory.mktemp(name) / "root"
        settings = LayoutSettings(subjects=SUBJECTS[name], frames=FRAMES, side=SIDE)
        expected = write_layout(name, root, settings)
        assert len({record.key for record in expected}) == len(expected)
        return root, {record.key: record for record in expected}

    return write


def read(name, root, *options):
    reader = open_corpus(name, root, options)
    return {record.key: record for record in reader.read()}, reader.problems


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_reader_finds_what_was_written_and_nothing_else(written, name):
    root, expected = written(name)
    found, _ = read(name, root)
    assert {k: dataclasses.replace(record, image=None) for k, record in found.items()} == expected


@pytest.mark.parametrize(
    ("name", "samples", "lost"),
    [("bp4d", 2 * 8 * 4 - 2, 1), ("bp4dplus", 2 * 4 * 4 - 2, 1), ("disfaplus", 2 * 2 * 4 - 1, 1)],
)
def test_frames_without_a_code_or_a_picture_are_left_out(written, name, samples, lost):
    root, expected = written(name)
    found, problems = read(name, root)
    assert len(expected) == len(found) == samples
    (problem,) = problems
    assert problem.what.startswith(f"{lost} coded frames not used, no picture in")


def shown(record):
    """The face in the middle of a record's photograph."""
    pixels = read_photo(record.image) if isinstance(record.image, Path) else record.image.read()
    assert pixels.shape == (96, 128, 3)
    return pixels[16:80, 32:96].astype(float)


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_label_meets_the_picture_of_its_own_frame(written, name):
    root, _ = written(name)
    found, _ = read(name, root)
    names = sorted({record.subject for record in found.values()})
    firsts = {"T2": 3, "T3": 3, "T6": 3} if name not in TASK else {}
    checked = 0
    for record in found.values():
        if record.subject == names[-1] and record.clip not in ("T1", "T3", "left", *TRIALS):
            continue
        # What frame of the synthetic person it is, told by the numbers that the layout documents.
        film = isinstance(record.image, VideoFrame)
        first = 1 if name in TASK else (firsts[record.clip] if film else 98)
        task = TASK[name](record.clip) if name in TASK else int(record.clip[1:])
        number = task * 1000 + record.frame - first
        person = names.index(record.subject)
        errors = [
            np.abs(shown(record) - render(draw_frame("folds", person, n).parameters, SIDE).pixels)
            for n in (number, number + 1)
        ]
        assert errors[0].mean() < 6 < errors[1].mean(), record.key
        checked += 1
        for unit, level in record.intensity.items():
            exact = draw_frame("folds", person, number).parameters.intensity.get(unit, 0.0)
            assert abs(exact - level) <= 0.5
    assert checked >= 12


def test_bp4d_has_the_oddities_of_the_official_folder(written):
    root, expected = written("bp4d")
    digits = {
        task.name: sorted({len(path.stem) for path in task.iterdir()})
        for task in (root / "F001").iterdir()
    }
    assert {tuple(one) for one in digits.values()} == {(4,), (2, 3), (3,)}
    assert sorted(path.name for path in root.glob("*.avi")) == ["2F01_T2.avi", "2F02_07.avi"]
    assert not (root / "F001/T2").exists() and not (root / "F002/T3").exists()
    assert (root / "AUCoding/f002_t1.CSV").exists() and (root / "F002/T1/096.JPG").exists()
    with open(root / "AUCoding/F001_T1.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:5] == ["0", "1", "2", "3", "4"] and rows[0][12] == "12"
    assert rows[4][1:] == ["9"] * (len(rows[0]) - 1)
    assert rows[3][12] == "9" and set(rows[1][1:25]) <= {"0", "1"}
    assert (root / "AU-Intensity-Codes3.0/AU06/F001_T1_AU06.csv").read_text().startswith("98,")
    # More pictures than coded frames: two before, one behind.
    assert len(list((root / "F001/T3").iterdir())) == FRAMES + 3
    assert count_frames(root / "2F01_T2.avi") == FRAMES + 3
    assert 5 in expected["bp4d_F001_T1_98"].presence
    assert {5, 20} & expected["bp4d_F002_T1_98"].presence.keys() == set()


def test_bp4dplus_codes_four_of_ten_tasks_in_columns_of_their_own(written):
    root, expected = written("bp4dplus")
    assert Counter(record.clip for record in expected.values()) == {
        "T1": 2 * FRAMES - 2, "T6": 2 * FRAMES, "T7": 2 * FRAMES, "T8": 2 * FRAMES,
    }  # fmt: skip
    ten = {f"T{task}" for task in range(1, 11)}
    assert {path.name for path in (root / "2D+3D/F001").iterdir()} == ten - {"T6"}
    assert (root / "2D+3D/F001_T6.avi").exists() and not (root / "2D+3D/F002").exists()
    with zipfile.ZipFile(root / "2D+3D/F002.zip") as archive:
        parts = [name.split("/") for name in archive.namelist() if name.endswith(("jpg", "JPG"))]
    assert {one[0] for one in parts} == {"F002"} and {one[1] for one in parts} == ten
    header = root / "AUCoding/AU_OCC/F002_T1.csv"
    assert not header.exists() and header.with_name("f002_t1.CSV").exists()
    first = (root / "AUCoding/AU_OCC/F001_T1.csv").read_text().splitlines()[0].split(",")
    # As listed in rPPG-Toolbox: AU4 in column 3, AU24 in column 21, none of AU25 and AU26.
    assert first[3] == "4" and first[21] == "24" and not {"25", "26", "3", "8"} & {*first}
    assert (root / "AUCoding/AU_INT/AU17/F002_T8_AU17.csv").exists()
    assert (root / "Physiology/F001/T2").is_dir()


def test_disfa_is_one_frame_short_of_sn010_and_has_two_cameras(written):
    root, expected = written("disfa")
    counts = Counter(record.subject for record in expected.values())
    assert counts.pop("SN010") == FRAMES - 1 and set(counts.values()) == {FRAMES}
    left, _ = read("disfa", root)
    right, problems = read("disfa", root, "camera=right")
    assert problems == [] and len(right) == len(left)
    for key in ("disfa_SN001_left_1", "disfa_SN010_left_3"):
        other = right[key.replace("left", "right")]
        assert other.intensity == left[key].intensity
        mirrored = shown(other)[:, ::-1]
        assert (
            np.abs(mirrored - shown(left[key])).mean()
            < 3
            < np.abs(shown(other) - shown(left[key])).mean()
        )


def test_disfaplus_has_pictures_that_are_not_coded_and_none_that_is_aligned_is_read(written):
    root, expected = written("disfaplus")
    numbers = [path.stem for path in sorted((root / "Images/SN001/A1_AU1_TrialNo_1").iterdir())]
    assert numbers == [f"{number:03d}" for number in range(FRAMES + 2)]
    assert len(list((root / "Images/SN001/A2_AU1_TrialNo_1").iterdir())) == FRAMES + 1
    lines = (root / "Labels/SN003/A2_AU1_TrialNo_1/AU12.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["001.jpg", "002.jpg", "003.jpg", "004.jpg"]
    assert "disfaplus_SN001_A2-AU1-TrialNo-1_3" not in expected
    assert (root / "Aligned/SN001/A1_AU1_TrialNo_1/000.jpg").exists()


def test_the_persons_of_a_layout_are_those_of_the_committed_folds(written, caplog):
    _, expected = written("disfa")
    persons = {(record.corpus, record.subject) for record in expected.values()}
    folds = load_folds("disfa", persons, validation_share=0)
    assert sorted(person for fold in folds for person in fold.test) == sorted(persons)
    assert "17 subjects of the folds 'disfa' have no data" in caplog.text
    assert "left out" not in caplog.text


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(written, tmp_path):
    root, _ = written("bp4d")
    for seed in (0, 1):
        settings = LayoutSettings(subjects=1, frames=FRAMES, side=SIDE, seed=seed)
        write_layout("bp4d", tmp_path / str(seed), settings)
    same, other = tmp_path / "0", tmp_path / "1"
    picture = "F001/T1/98.jpg"
    assert (same / picture).read_bytes() == (root / picture).read_bytes()
    assert (same / picture).read_bytes() != (other / picture).read_bytes()
    table = "AUCoding/F001_T3.csv"
    assert (same / table).read_bytes() == (root / table).read_bytes()
    assert (same / table).read_bytes() != (other / table).read_bytes()


def test_more_persons_than_the_corpus_has_and_full_folders_are_refused(tmp_path, capsys):
    for name, most in (("bp4d", 41), ("bp4dplus", 140), ("disfa", 27), ("disfaplus", 9)):
        with pytest.raises(ConfigError, match=f"found {most + 1}; {name} has {most} persons"):
            write_layout(name, tmp_path / name, LayoutSettings(subjects=most + 1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    with pytest.raises(CorpusError, match="full: is not empty"):
        write_layout("disfa", tmp_path / "full", LayoutSettings())
    command = ["synth", str(tmp_path / "new"), "--layout", "disfa", "--subjects", "1"]
    assert main([*command, "--frames", "4", "--side", "64"]) == 0
    assert "4 labelled faces in the layout of disfa" in capsys.readouterr().out


@pytest.mark.slow
def test_a_layout_without_further_words_is_of_six_persons(tmp_path, capsys):
    assert main(["synth", str(tmp_path / "new"), "--layout", "disfa"]) == 0
    assert "120 labelled faces in the layout of disfa" in capsys.readouterr().out
