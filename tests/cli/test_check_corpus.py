"""`norface check CORPUS ROOT`: counts, label rates, folds, and what is missing or damaged."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from norface.cli.main import main
from norface.data.corpora.base import READERS, CorpusReader, open_corpus
from norface.data.corpus_check import check_corpus
from norface.data.corpus_report import format_report
from norface.data.fold_lists import read_fold_list
from norface.data.records import FaceRecord
from norface.errors import CorpusError
from norface.synthetic.layouts.base import LAYOUTS


@dataclass(frozen=True)
class Frame:
    """A picture inside a larger file."""

    value: int

    def read(self):
        if self.value == 255:
            raise CorpusError(f"{self}: cannot be decoded")
        return np.full((8, 8, 3), self.value, np.uint8)

    def __str__(self):
        return f"tape {self.value}"


class SmallDisfa(CorpusReader):
    """Two subjects of part1, one of part2 and one that no list knows; 4 frames each."""

    name = "disfa"
    title = "a reader for this test"
    tree = "ROOT/labels.txt"
    published = {"samples": 18, "subjects": 4, "samples/train": 7}

    def records(self):
        self.need("labels.txt")
        names = [*self.people(), "SN999"]
        for person, name in enumerate(names):
            for frame in range(4):
                yield FaceRecord(
                    "disfa", name, "left", frame, Frame(4 * person + frame),
                    intensity={12: float(frame)}, presence={12: int(frame >= 2)},
                    split="train" if person < 2 else "test",
                )  # fmt: skip
        self.left_out["frames before the stimulus"] += 3
        yield FaceRecord("disfa", names[0], "left", 0, Frame(1))
        yield FaceRecord("disfa", names[0], "left", 9, Frame(255))

    @staticmethod
    def people():
        parts = read_fold_list("disfa").parts
        return [parts["part1"][0][1], parts["part1"][1][1], parts["part2"][0][1]]


@pytest.fixture
def disfa(tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, "disfa", f"{__name__}:SmallDisfa")
    (tmp_path / "labels.txt").write_text("")
    return tmp_path


def test_counts_stand_beside_the_published_ones(disfa, capsys):
    assert main(["check", "disfa", str(disfa)]) == 1
    out = capsys.readouterr().out
    assert "17 samples of 4 subjects" in out
    assert "samples: 17, 1 fewer than the published 18" in out
    assert "subjects: 4, as published" in out
    assert "left out by rule: 3 frames before the stimulus" in out
    assert "samples/train: 8, 1 more than the published 7" in out
    key = f"disfa_{SmallDisfa.people()[0]}_left_0"
    assert f"not used: tape 1: the key {key} comes more than once" in out
    assert out.splitlines()[-1] == "not sound: 1 not used, 1 samples fewer"


def test_labels_are_counted_by_fold_and_unknown_subjects_are_named(disfa):
    report = check_corpus(SmallDisfa(disfa))
    # Each person has presence 0 0 1 1 and intensity 0 1 2 3; the last sample has no labels.
    assert (report.all.presence[12].labelled, report.all.presence[12].positive) == (16, 8)
    assert report.all.intensity[12].rate == 0.75
    sizes = {name: (part.samples, part.subjects) for name, part in report.by_part.parts.items()}
    assert sizes == {"test=part1": (9, 2), "test=part2": (4, 1), "test=part3": (0, 0)}
    assert report.by_part.parts["test=part1"].presence[12].labelled == 8
    assert report.by_part.unlisted == ["SN999"]
    everybody = {subject for part in read_fold_list("disfa").parts.values() for _, subject in part}
    assert set(report.by_part.absent) == everybody - set(SmallDisfa.people())
    text = format_report(report)
    assert (
        "1 subjects in no fold: SN999" in text
        and f"{len(report.by_part.absent)} subjects of the" in text
    )
    assert "AU12                    16       0.500       0.500       0.500           -" in text


def write_rafdb(root, codes):
    """RAF-DB's list, and an empty file for each picture; codes: train or test => labels."""
    lines = [
        f"{part}_{number:05d}.jpg {code}"
        for part, labels in codes.items()
        for number, code in enumerate(labels, 1)
    ]
    (root / "basic/EmoLabel").mkdir(parents=True)
    (root / "basic/EmoLabel/list_patition_label.txt").write_text("\n".join(lines))
    (root / "basic/Image/aligned").mkdir(parents=True)
    for line in lines:
        name = line.split(".")[0]
        (root / f"basic/Image/aligned/{name}_aligned.jpg").write_bytes(b"picture")
    return root


def test_labels_of_corpora_with_official_parts_are_counted_by_these(tmp_path, capsys):
    # 4 = happiness, 7 = neutral, 2 = fear.
    root = write_rafdb(tmp_path, {"train": [4, 4, 4, 7], "test": [4, 7, 7, 7, 2]})
    report = check_corpus(open_corpus("rafdb", root))
    assert {name: part.emotions for name, part in report.by_part.parts.items()} == {
        "train": {"neutral": 1, "happiness": 3},
        "test": {"neutral": 3, "happiness": 1, "fear": 1},
    }
    assert (report.by_part.unlisted, report.by_part.absent) == ([], [])
    assert main(["check", "rafdb", str(root)]) == 1
    out = capsys.readouterr().out
    assert "train: 4 samples of 4 subjects\ntest: 5 samples of 5 subjects\n" in out
    assert "emotion           labelled         all       train        test" in out
    assert "happiness                4       0.444       0.750       0.200" in out
    assert "fear                     1       0.111       0.000       0.200" in out


def test_pictures_of_larger_files_are_judged_when_they_are_decoded(disfa):
    assert check_corpus(SmallDisfa(disfa)).damaged == []
    report = check_corpus(SmallDisfa(disfa), decode=True)
    assert [(one.place, one.what) for one in report.damaged] == [("tape 255", "cannot be decoded")]
    assert report.same_pictures == []


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    random = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 30, 3), np.uint8)).save(root / name)
    (tmp_path / "labels.csv").write_text(
        "path,emotion,au_1\na/1.png,fear,1\na/2.png,fear,\nb/1.png,anger,0\n"
    )
    return root


def test_a_sound_folder_ends_with_0(photos, capsys):
    labels = f"labels={photos.parent / 'labels.csv'}"
    assert main(["check", "folder", str(photos), labels, "--decode"]) == 0
    out = capsys.readouterr().out
    assert "3 samples of 2 subjects; pictures were decoded" in out
    assert "AU1                      2       0.500" in out
    assert "fear                     2       0.667" in out
    assert out.splitlines()[-1] == "sound: nothing missing or damaged"


def test_damaged_and_repeated_pictures_are_found_by_decoding(photos, capsys):
    data = (photos / "a" / "1.png").read_bytes()
    (photos / "b" / "2.png").write_bytes(data)
    (photos / "b" / "3.png").write_bytes(data[: len(data) // 2])
    (photos / "b" / "4.png").write_bytes(b"")
    assert main(["check", "folder", str(photos), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [one["what"] for one in report["damaged"]] == ["the file is empty"]
    assert main(["check", "folder", str(photos), "--decode", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    found = {one["place"].rsplit("/", 1)[1]: one["what"] for one in report["damaged"]}
    assert set(found) == {"3.png", "4.png"} and "damaged picture" in found["3.png"]
    assert [one["what"] for one in report["same_pictures"]] == ["the picture of folder_a_1_0"]
    assert report["all"]["samples"] == 6 and report["decoded"]


@pytest.mark.slow
def test_processes_find_the_same(photos):
    (photos / "b" / "3.png").write_bytes(b"no picture")
    reports = [
        check_corpus(open_corpus("folder", photos), decode=True, workers=workers)
        for workers in (1, 2)
    ]
    assert reports[0] == reports[1] and len(reports[0].damaged) == 1


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_rehearsal_of_every_layout_is_checked(layout, tmp_path, capsys):
    # The default number of persons: of BP4D, some units are coded in one part of the folds alone.
    root, small = str(tmp_path / "corpus"), ["--frames", "4", "--side", "64"]
    assert main(["synth", root, "--layout", layout, *small]) == 0
    capsys.readouterr()
    options = ["pictures=original"] if layout == "rafdb-original" else []
    # 1: rehearsals have the odd rows and lost frames of their corpus, and not all of its samples.
    assert main(["check", layout.split("-")[0], root, *options, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] or report["missing"] or report["published"]
    for part in (report["all"], *report["by_part"]["parts"].values()):
        units = [*part["presence"].values(), *part["intensity"].values()]
        assert all(0 < one["labelled"] <= part["samples"] for one in units)


@dataclass(frozen=True)
class InFile(Frame):
    """A picture that says in which file it lies."""

    path: Path


class Lost(CorpusReader):
    """A list that names a picture that is not there."""

    name, title, tree = "lost", "a reader for this test", "ROOT/"

    def records(self):
        yield FaceRecord("lost", "S", "c", 0, self.root / "gone.jpg")
        yield FaceRecord("lost", "S", "c", 1)
        yield FaceRecord("lost", "S", "c", 2, InFile(0, self.root / "gone.avi"))


def test_missing_pictures_are_listed(tmp_path):
    report = check_corpus(Lost(tmp_path))
    assert [(one.place, one.what) for one in report.missing] == [
        (str(tmp_path / "gone.jpg"), "no such file"),
        ("lost_S_c_1", "the sample has no picture"),
        ("tape 0", "no such file"),
    ]
    assert not report.sound and "not sound: 3 missing" in format_report(report)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["folder"], "corpus folder: give its folder, too: folder ROOT"),
        (["shards", "{root}"], "corpus 'shards' is unknown; there are: "),
        (["folder", "{root}/gone"], "no such folder"),
        (["folder", "{root}", "label=x"], "unknown key 'label'; did you mean 'labels'?"),
        (["folder", "{root}", "--rebuild-index"], "--rebuild-index is for shards"),
        (["{root}", "--decode"], "--decode is for a corpus"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["check", *(word.format(root=tmp_path) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_rows_with_too_few_or_too_many_cells_are_listed_and_not_used(photos, capsys):
    table = photos.parent / "labels.csv"
    table.write_text(
        "path,subject,au_1,au_2\na/1.png,anna,1\na/2.png,anna,1,,\nb/1.png,ben,0,1\n\n"
    )
    assert main(["check", "folder", str(photos), f"labels={table}", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [(one["place"], one["what"]) for one in report["problems"]] == [
        (f"{table}:2", "3 cells, the table has 4 columns; a/1.png is not used"),
        (f"{table}:3", "5 cells, the table has 4 columns; a/2.png is not used"),
    ]
    assert report["all"]["samples"] == 1 and report["all"]["presence"]["2"]["labelled"] == 1
