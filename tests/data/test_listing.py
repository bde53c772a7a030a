"""Folders that cannot be read are named; nothing below them is passed over in silence."""

import shutil

import numpy as np
import pytest
from locked import run_locked
from PIL import Image

from norface.cli.main import main
from norface.data.listing import find_files, refuse_inside, walk_files
from norface.errors import CorpusError
from norface.synthetic.layouts.base import LayoutSettings, write_layout


@pytest.fixture
def photos(tmp_path):
    for name in ("anna/1.png", "ben/deep/1.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((20, 30, 3), len(name), np.uint8)).save(path)
    return tmp_path / "photos"


def one_line(result, folder):
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert str(folder) in last and "Permission denied" in last, result.stderr


def test_a_walk_finds_every_file_and_enters_no_link(photos):
    (photos / "again").symlink_to(photos)
    found = {path.relative_to(photos).as_posix() for path in walk_files(photos)}
    assert found == {"anna/1.png", "ben/deep/1.png"}
    with pytest.raises(CorpusError, match="gone: cannot be read"):
        list(walk_files(photos / "gone"))


def test_files_of_a_name_are_found_without_a_runs_copies(tmp_path):
    names = ("b/x.json", "a/x.json", "a/artifacts/x.json", "a/x.json.tmp", "artifacts2/x.json")
    for name in names:
        (tmp_path / "artifacts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "artifacts" / name).write_text("{}")
    # The folder itself may lie below one of that name.
    found = find_files(tmp_path / "artifacts", "x.json")
    names = [path.relative_to(tmp_path / "artifacts").as_posix() for path in found]
    assert names == ["a/x.json", "artifacts2/x.json", "b/x.json"]


def test_a_folder_that_goes_away_during_a_walk_is_not_there(photos):
    (photos / "top.png").touch()
    files = walk_files(photos)
    assert next(files) == photos / "top.png"
    shutil.rmtree(photos / "ben")
    assert list(files) == [photos / "anna" / "1.png"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ben", "ben/deep"])
def test_a_person_whose_folder_may_not_be_read_is_not_left_out_in_silence(photos, name):
    for words in (["check", "folder", str(photos)], ["analyze", str(photos), "--aligned"]):
        one_line(run_locked(words, photos / name), photos / name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "folder"),
    [("disfa", "ActionUnit_Labels"), ("bp4d", "AUCoding"), ("rafdb", ""), ("emo135", "")],
)
def test_readers_name_a_folder_that_may_not_be_read(tmp_path, layout, folder):
    root = tmp_path / layout
    write_layout(layout, root, LayoutSettings(subjects=1, frames=4, side=64))
    folders = [path for path in root.rglob("*") if path.is_dir()]
    locked = next(path for path in folders if path.name.startswith(folder))
    one_line(run_locked(["check", layout, str(root)], locked), locked)


@pytest.mark.slow
def test_shards_that_may_not_be_read_are_one_line(write_shards):
    folder = write_shards(3).folders[0]
    one_line(run_locked(["check", str(folder)], folder), folder)
    one_line(run_locked(["export", str(folder), "out", "--licence", "x"], folder), folder)


@pytest.mark.slow
def test_a_fold_that_may_not_be_read_is_not_left_out_of_a_comparison(tmp_path):
    for fold in ("test=part1", "test=part2"):
        (tmp_path / "cv" / "norface" / "seed0" / fold).mkdir(parents=True)
    locked = tmp_path / "cv" / "norface" / "seed0" / "test=part2"
    one_line(run_locked(["compare", str(tmp_path / "cv")], locked), locked)


def test_no_output_lies_in_the_folder_that_is_read(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in ("photos/out", "photos", "photos/../photos/out"):
        assert main(["prepare", "folder", "photos", out]) == 2
        assert f"{out}: lies in photos, which is read; choose" in capsys.readouterr().err
    assert sorted(path.name for path in photos.iterdir()) == ["anna", "ben"]
    refuse_inside(tmp_path / "photos2", photos)
    refuse_inside(tmp_path, photos)
