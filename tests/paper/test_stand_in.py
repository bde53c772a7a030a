"""The synthetic corpus in the place of corpora that are not there."""

from pathlib import Path

import pandas as pd
import pytest

from norface.cli.main import main
from norface.data.shards import ShardIndex
from norface.paper.compare import compare_table
from norface.paper.config import PaperConfig, StandInConfig
from norface.paper.experiments import run_experiment

CONFIGS = Path(__file__).parents[2] / "configs"


def test_collecting_renders_and_trains_nothing(tmp_path):
    words = ["paper", "table7", f"root={tmp_path / 'runs'}", f"out={tmp_path / 'out'}",
             f"configs={CONFIGS}", "tracking.mlflow=false", "train=false"]  # fmt: skip
    assert main([*words, "stand_in.normalizer_images=64"]) == 0
    assert {path.name for path in (tmp_path / "runs/paper").iterdir()} == {"tables"}
    text = (tmp_path / "out/table7.md").read_text()
    assert "runs/paper/synthetic has no runs, and train=false trains none" in text


@pytest.mark.parametrize("name", ["fig3", "fig4", "fig5", "fig8", "fig9"])
@pytest.mark.parametrize("off", ["stand_in.enabled=false", "train=false"])
def test_a_figure_renders_nothing_where_nothing_may_stand_in(tmp_path, capsys, name, off):
    words = ["paper", name, f"root={tmp_path / 'runs'}", f"out={tmp_path / 'out'}",
             f"configs={CONFIGS}", "tracking.mlflow=false", off]  # fmt: skip
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"{name}: no experiment " in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_synthetic_faces_stand_in_across_corpora_and_say_what_they_are(tmp_path):
    config = PaperConfig(
        root=tmp_path,
        configs=CONFIGS,
        stand_in=StandInConfig(subjects=9, frames=4, epochs=1),
        tracking={"mlflow": False},
    )
    block = compare_table(config, "table5").blocks[-1]
    assert block.experiment == "synthetic-to-webcam" and block.about["folds"] == "test=webcam"
    ours = next(line for line in block.lines if line.setting)
    assert ours.ours and ours.remark == "rendered true faces, no F_nor"
    path = next((tmp_path / "paper/synthetic-to-webcam/norface").rglob("*.parquet"))
    tested = pd.read_parquet(path)
    assert set(tested["key"].str.partition("_")[0]) == {"webcam"}
    assert tested["subject"].nunique() == 9 and tested["truth"].notna().all()
    folds = ShardIndex.open(tmp_path / "paper/data/folds")
    assert not set(tested["subject"]) & {subject for _, subject in folds.persons}
    features = run_experiment(config, "synthetic", "au", ["features"])
    assert features.remarks["features"].endswith("action units, nearly the labels")
