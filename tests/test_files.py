"""Files and folders that are there whole or not at all."""

import pytest

from norface.errors import CorpusError
from norface.files import write_aside, write_folder_aside


def test_a_file_appears_when_it_is_whole(tmp_path):
    with write_aside(tmp_path / "a.csv") as temporary:
        temporary.write_text("1")
        assert not (tmp_path / "a.csv").exists() and temporary.suffix == ".csv"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), write_aside(tmp_path / "a.csv") as temporary:
        temporary.write_text("new")
        1 / 0  # noqa: B018
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_appears_when_it_is_whole(tmp_path, there):
    out = tmp_path / "deep" / "out"
    if there:
        out.mkdir(parents=True)
    with write_folder_aside(out) as folder:
        (folder / "x").write_text("1")
        assert not (out / "x").exists()
    assert (out / "x").read_text() == "1" and list(out.parent.iterdir()) == [out]


def test_an_error_leaves_no_folder(tmp_path):
    with pytest.raises(CorpusError), write_folder_aside(tmp_path / "out") as folder:
        (folder / "x").write_text("1")
        raise CorpusError("damaged")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_aside_is_removed(tmp_path):
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp" / "old").write_text("1")
    with write_folder_aside(tmp_path / "out") as folder:
        (folder / "x").write_text("1")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def test_the_folder_one_is_in_can_be_named_by_a_dot(tmp_path, monkeypatch):
    from pathlib import Path

    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    with write_folder_aside(Path(".")) as folder:
        (folder / "x").write_text("1")
    assert (tmp_path / "out" / "x").read_text() == "1"


def test_a_full_folder_a_file_and_a_file_as_parent_are_refused_by_name(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("1")
    (tmp_path / "file").write_text("1")
    for name, message in (
        ("full", "full: is not empty; choose another folder"),
        ("file", "file: is a file; choose a new folder"),
        ("file/out", "cannot be written"),
    ):
        with pytest.raises(CorpusError, match=message), write_folder_aside(tmp_path / name):
            raise AssertionError("must not be reached")
    assert (tmp_path / "full" / "mine").read_text() == "1"
