"""`norface train`: what it says, what it refuses, and the codes it ends with."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from norface.cli.main import main
from norface.training import stages

TRAINING = str(Path(__file__).parents[1] / "training")
sys.path.insert(0, TRAINING)
TINY_TRAIN = f"""
import sys
sys.path.insert(0, {TRAINING!r})
from norface.cli.main import main
from norface.training import stages
stages.STAGES["tiny"] = ("tiny", "TinyConfig", "TinyStage")
sys.exit(main(["train", "tiny", *sys.argv[1:]]))
"""


@pytest.fixture(autouse=True)
def _tiny_stage(monkeypatch):
    monkeypatch.setitem(stages.STAGES, "tiny", ("tiny", "TinyConfig", "TinyStage"))


def train(tmp_path: Path, *words: str) -> int:
    settings = [f"root={tmp_path}", "tracking.mlflow=false", "backend.device=cpu"]
    return main(["train", "tiny", "trainer.images=80", *settings, *words])


def test_a_stage_is_trained_from_a_file_and_overrides_in_any_order(tmp_path):
    (tmp_path / "run.yaml").write_text("name: from-yaml\nwidth: 4\n")
    assert train(tmp_path, "-c", str(tmp_path / "run.yaml"), "trainer.images=16") == 0
    assert "width: 4" in (tmp_path / "from-yaml" / "config.yaml").read_text()


def test_a_dry_run_shows_the_config_the_steps_and_the_folder_and_starts_nothing(tmp_path, capsys):
    assert train(tmp_path, "--dry-run", "backend.world_size=5") == 0
    said = capsys.readouterr().out
    assert "width: 16" in said
    assert f"tiny: 2 steps of 40 pictures (5 ranks), run folder {tmp_path}/run" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train", "mea"], "unknown stage 'mea'; there are: mae, nor, cla, critic"),
        (["train", "tiny", "widht=3"], "did you mean 'width'?"),
        (["train", "tiny", "-c", "absent.yaml"], "absent.yaml: no such config file"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(capsys, words, line):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert line in said and len(said.splitlines()) == 1


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    assert ended.value.code == 0
    assert "norface train nor -c configs/nor/pretrain.yaml" in capsys.readouterr().out


def test_a_run_that_is_asked_to_stop_ends_with_75_and_the_same_command_goes_on(tmp_path):
    settings = [f"root={tmp_path}", "tracking.mlflow=false", "backend.device=cpu"]
    words = ["trainer.images=4000", "slow_s=0.01", "trainer.log_every_steps=1"]
    # A process of its own: a fork of one that has computed already may wait for its threads.
    child = subprocess.Popen([sys.executable, "-c", TINY_TRAIN, *settings, *words])
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 75
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    step = int(checkpoint.name.removeprefix("step-"))
    assert train(tmp_path, f"trainer.images={8 * step + 8}", "slow_s=0.01") == 0
