"""Files and folders that are there whole or not at all."""

import os

import pytest
import torch
from safetensors.torch import load_file

from norface.errors import CorpusError
from norface.files import write_aside, write_folder_aside, write_tensors


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


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_tensors_are_written_with_the_mode_that_the_umask_asks_for(tmp_path, umask, mode):
    tied = torch.arange(6.0).reshape(2, 3)
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "w.safetensors", {"a": tied.T, "b": tied}, {"about": "x"})
        # Written anew over a file that others may not read.
        os.chmod(tmp_path / "w.safetensors", 0o400)
        write_tensors(tmp_path / "w.safetensors", {"a": tied.T, "b": tied}, {"about": "x"})
    finally:
        os.umask(before)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == mode
    found = load_file(path)
    assert torch.equal(found["a"], tied.T) and torch.equal(found["b"], tied)


def test_tensors_that_cannot_be_written_leave_nothing(tmp_path):
    (tmp_path / "w.safetensors" / "full").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_tensors(tmp_path / "w.safetensors", {"a": torch.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
