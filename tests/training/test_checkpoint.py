"""Checkpoints are whole or passed over; a full disk costs nothing that was saved."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from disks import remount, small_disk
from ranks import tiny_config
from safetensors.torch import load_file
from tiny import TinyStage

from norface.errors import CheckpointError
from norface.training.checkpoint import CheckpointFolder, Manifest
from norface.training.run import run_stage


def make_state(value: float = 1.0, numbers: int = 8) -> dict:
    weights = torch.full((numbers,), value)
    return {
        "models": {"network": {"weight": weights, "tied": weights}},
        "optimizers": {"network": {"state": {0: {"exp_avg": weights / 2}}, "param_groups": [1]}},
        "extra": {"scale": 0.1, "names": ["a", "b"]},
        "trainer": {"windows": [{"loss": [0.1, 2.0]}]},
    }


def make_manifest(step: int) -> Manifest:
    return Manifest(
        stage="tiny", step=step, images=8 * step, global_batch=8, world_size=1, config_hash="0"
    )


def save(folder: CheckpointFolder, step: int, **more: float) -> Path:
    return folder.save(make_state(**more), make_manifest(step), "seed: 0\n")


def test_what_was_saved_is_read_back_bit_for_bit(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    save(folder, 3, value=1 / 3)
    found = folder.load(folder.newest_whole().step)
    expected = make_state(1 / 3)
    assert torch.equal(found["models"]["network"]["weight"], torch.full((8,), 1 / 3))
    assert torch.equal(found["models"]["network"]["tied"], torch.full((8,), 1 / 3))
    state = found["optimizers"]["network"]["state"][0]["exp_avg"]
    assert torch.equal(state, torch.full((8,), 1 / 3) / 2)
    assert found["extra"] == expected["extra"] and found["trainer"] == expected["trainer"]


def test_only_the_newest_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (1, 5, 20, 100):
        save(folder, step)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000020", "step-00000100"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["network.safetensors", "state.pt", "manifest.json"])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_checkpoint_is_passed_over_with_one_line(tmp_path, capsys, name, damage):
    folder = CheckpointFolder(tmp_path, keep=3)
    save(folder, 1)
    path = save(folder, 2)
    damage(path / name)
    assert folder.newest_whole().step == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "passed over" in line and str(path / name) in line


@pytest.mark.parametrize("sums", [{}, None, {"state.pt": "0", "../state.pt": "0"}])
def test_a_manifest_that_does_not_list_the_files_is_damaged(tmp_path, capsys, sums):
    folder = CheckpointFolder(tmp_path, keep=3)
    save(folder, 1)
    path = save(folder, 2) / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "sha256": sums}))
    assert folder.newest_whole().step == 1
    if sums is not None:
        del values["sha256"]
        path.write_text(json.dumps(values))
        assert folder.newest_whole().step == 1
    assert f"passed over: {path}" in capsys.readouterr().err


def test_only_what_the_manifest_lists_is_loaded(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=3)
    path = save(folder, 1)
    (path / "stranger.safetensors").write_bytes((path / "network.safetensors").read_bytes())
    assert set(folder.load(folder.newest_whole().step)["models"]) == {"network"}


def test_every_file_is_on_the_disk_before_the_checkpoint_has_its_name(tmp_path, monkeypatch):
    happened: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_sync(number: int) -> None:
        fsync(number)
        happened.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)

    def note_rename(before: Path, after: Path) -> None:
        rename(before, after)
        happened.append(f"=> {Path(after).name}")

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    save(CheckpointFolder(tmp_path / "checkpoints", keep=3), 1)
    at = happened.index("=> step-00000001")
    files = {"network.safetensors", "state.pt", "config.yaml", "manifest.json"}
    assert files | {".writing-step-00000001"} <= set(happened[:at])
    assert happened[at - 1] == ".writing-step-00000001" and happened[at + 1] == "checkpoints"


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=3)
    path = save(folder, 2)
    cut(path / "state.pt")
    save(folder, 2, value=7.0)
    assert folder.newest_whole().step == 2
    assert folder.load(2)["models"]["network"]["weight"][0] == 7


def test_leftovers_of_a_killed_job_are_no_checkpoints_and_are_cleared(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=3)
    (tmp_path / ".writing-step-00000009").mkdir()
    assert folder.newest_whole() is None
    save(folder, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=1)
    path = save(folder, 1)
    torch.save({"extra": pytest.raises}, path / "state.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        folder.load(1)


def test_state_that_could_not_be_read_back_is_refused_by_its_place(tmp_path):
    state = make_state()
    state["extra"]["scores"] = [1.0, np.float64(2)]
    with pytest.raises(TypeError, match=r"state\.extra\.scores\[1\] is a float64"):
        CheckpointFolder(tmp_path, keep=1).save(state, make_manifest(1), "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("numbers", [40_000, 100_000])
def test_a_full_disk_is_one_line_and_older_checkpoints_stay(tmp_path, numbers):
    with small_disk(tmp_path / "disk", "size=700k") as disk:
        folder = CheckpointFolder(disk / "checkpoints", keep=9)
        save(folder, 1, numbers=20_000)
        with pytest.raises(CheckpointError, match="no space left on device") as caught:
            save(folder, 2, numbers=numbers)
        assert "\n" not in str(caught.value)
        assert [path.name for path in folder.folder.iterdir()] == ["step-00000001"]
        assert folder.newest_whole().step == 1


def test_a_run_on_a_full_disk_stops_in_one_line_and_goes_on_when_there_is_room(tmp_path):
    overrides = ("width=600", "trainer.keep_checkpoints=9", "trainer.images=240")
    run_stage(TinyStage, tiny_config(tmp_path / "whole", *overrides))
    with small_disk(tmp_path / "disk", "size=150k") as disk:
        config = tiny_config(disk, *overrides)
        with pytest.raises(CheckpointError, match="no space left on device"):
            run_stage(TinyStage, config)
        assert json.loads((disk / "run" / "run.json").read_text())["status"] == "failed"
        remount(disk, "size=9m")
        run_stage(TinyStage, config)
        weights = load_file(disk / "run" / "tiny.safetensors")
        for name, expected in load_file(tmp_path / "whole" / "run" / "tiny.safetensors").items():
            assert torch.equal(weights[name], expected)
