"""benchmarks/normalizer_128.py at the smallest sizes: every step and figure, and a second start."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from norface.data.labels import DETECTION_UNITS, unit_name

PROJECT = Path(__file__).resolve().parents[2]
SMALLEST = [
    "--critic-subjects=124", "--reader-images=128", "--normalizer-subjects=2", "--clip=12",
    "--target=synthetic_S100160_seed0clip0of12_0", "--images=32", "--subjects=3", "--frames=4",
    "--renders=32", "--ranks=1",
]  # fmt: skip
FIGURES = {
    "nearer_to_target", "yaw_spread_cut", "source_rank1", "source_rank1_originals", "chance_rank1",
    "au_r", "au_r_truth", "error_ratio", "au_r_reader", "error_reader", "error_alike",
}  # fmt: skip
STEPS = ["render", "reader", "F_nor", "normalize", "truth, measure"]


def start(folder: Path) -> str:
    """What one start of the script prints."""
    return subprocess.run(
        [sys.executable, str(PROJECT / "benchmarks" / "normalizer_128.py"), str(folder), *SMALLEST],
        env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@pytest.mark.slow
def test_every_figure_is_there_and_a_second_start_makes_nothing_again(tmp_path):
    printed = start(tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    units = {f"au_r/{unit_name(unit)}" for unit in DETECTION_UNITS["synthetic"]}
    assert set(figures) == FIGURES | units
    assert all(math.isfinite(value) for value in figures.values())
    # The renderer draws what it is told better than F_nor, but for what no intensity tells: that
    # left and right differ; the true faces were packed as JPEG, too.
    assert 0.05 < figures["error_alike"] < min(figures["error_reader"], 0.25)
    assert all(f'"{name}": {value}' in printed for name, value in figures.items())
    assert all(f"{step} " in printed.splitlines()[-1] for step in STEPS)
    took = json.loads((tmp_path / "times.json").read_text())
    assert list(took) == STEPS
    assert (tmp_path / "faces.png").stat().st_size > 1000

    made = [path for kind in ("tar", "safetensors") for path in tmp_path.rglob(f"*.{kind}")]
    before = {path: path.stat().st_mtime_ns for path in made}
    assert start(tmp_path).count("finished already") == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    # Times are added up over the starts.
    again = json.loads((tmp_path / "times.json").read_text())
    assert all(again[step] > took[step] for step in STEPS)
