"""The whole command on the smallest sizes: it ends, goes on, and refuses other sizes."""

import json
from pathlib import Path

import pytest
import yaml

from norface.cli.main import main
from norface.config import load_config
from norface.evaluation.crossval_config import CrossvalConfig
from norface.quickstart.settings import CLASSIFIER, NORMALIZER, QuickstartConfig
from norface.training.stages.nor_config import NorConfig

CONFIGS = Path(__file__).parents[2] / "configs"
SMALLEST = [
    "normalizer_subjects=8", "normalizer_frames=6", "targets=1", "target_frames=12",
    "subjects=9", "frames=6", "target_renders=64", "normalizer_images=64",
    "epochs=1", "tracking.mlflow=false",
    # Processes that render and train what one does: test_corpus.py, test_crossval.py.
    "workers=1",
]  # fmt: skip
FIGURES = {
    "wall_s", "peak_rss_gib", "subjects", "image_size", "nearer_to_target", "yaw_spread_cut",
    "source_rank1", "source_rank1_originals", "chance_rank1",
    "au_r", "au_r_truth", "error_ratio", "f1_without", "f1_norface", "f1_truth",
    "f1_critic_features",
}  # fmt: skip


@pytest.mark.slow
def test_every_step_runs_once_and_the_figures_stay_when_it_is_started_again(tmp_path, capsys):
    root = tmp_path / "quickstart"
    words = ["quickstart", f"root={root}", *SMALLEST]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "[5/5]" in text and "report.html" in text and "r = " in text
    summary = json.loads((root / "summary.json").read_text())
    assert set(summary) >= FIGURES
    assert (summary["subjects"], summary["image_size"]) == (9, 64)
    for name in ("f1_without", "f1_norface", "f1_truth", "f1_critic_features"):
        found = summary[name]
        assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    assert (root / "faces.png").stat().st_size > 1000
    assert "data:image/png" in (root / "report.html").read_text(encoding="utf-8")

    made = [*root.rglob("*.safetensors"), *root.rglob("*.tar"), *root.rglob("predictions.parquet")]
    before = {path: path.stat().st_mtime_ns for path in made}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in made} == before
    # Time and memory too are those of the work, not of looking whether it is done.
    assert json.loads((root / "summary.json").read_text()) == summary

    capsys.readouterr()
    assert main([*words, "frames=7"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "frames=6" in error


def test_a_wrong_size_is_one_line(capsys):
    assert main(["quickstart", "subjects=2"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "'subjects'" in error and "9" in error


def read_differences(path):
    """A committed config without its own name and data."""
    return yaml.safe_load((CONFIGS / path).read_text(encoding="utf-8"))


def test_the_committed_config_of_f_nor_is_quickstarts():
    values = read_differences("nor/synthetic-64.yaml")
    shards = {"data": values["data"], "target_pool": values["target_pool"]}
    trainer = NORMALIZER["trainer"] | {"images": QuickstartConfig().normalizer_images}
    ours = {**NORMALIZER, **shards, "name": values["name"], "trainer": trainer}
    assert NorConfig.model_validate(values) == NorConfig.model_validate(ours)


def test_the_committed_config_of_f_cla_is_quickstarts():
    values = read_differences("cla/synthetic-64.yaml")
    cla = {**CLASSIFIER, "epochs": QuickstartConfig().epochs, "data": values["cla"]["data"]}
    ours = CrossvalConfig.model_validate({"name": values["name"], "cla": cla})
    assert load_config(CrossvalConfig, CONFIGS / "cla/synthetic-64.yaml") == ours
