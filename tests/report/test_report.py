"""The page holds everything that it shows, and shows what the folders say."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from norface.errors import CorpusError
from norface.evaluation.collecting import summarize_settings
from norface.evaluation.predictions import tabulate
from norface.images import write_png
from norface.report import KeyFigure, build_report
from norface.report.figures import smooth
from norface.tracking import TrackingConfig, open_run


def make_table(fold: str, noise: float):
    rng = np.random.default_rng(0)
    names = [f"S{fold[-1]}{i % 6}" for i in range(60)]
    truth = (rng.random((60, 2)) < 0.4).astype(float)
    scores = np.clip(truth + noise * rng.normal(size=truth.shape), 0, 1)
    keys = [f"synthetic_{name}_c_{i}" for i, name in enumerate(names)]
    return tabulate(
        keys=keys, subjects=names, fold=fold, targets=["AU1", "AU12"], truth=truth, scores=scores
    )


@pytest.fixture
def folder(tmp_path):
    folds = [f"test=part{i}" for i in (1, 2, 3)]
    tables = {
        name: {fold: [make_table(fold, noise)] for fold in folds}
        for name, noise in (("without", 0.9), ("norface", 0.4))
    }
    (tmp_path / "crossval").mkdir()
    result = summarize_settings(tables, "au")
    (tmp_path / "crossval" / "crossval.json").write_text(json.dumps(result))
    (tmp_path / "summary.json").write_text(json.dumps({"error_ratio": 0.51, "wall_s": 800.0}))
    tracking = TrackingConfig(mlflow=False)
    for name, kind in (("nor", "nor"), ("crossval/without/seed0/test=part1", "cla")):
        with open_run(tmp_path / name, kind=kind, tracking=tracking, root=tmp_path) as run:
            for step in range(5):
                run.log({"loss": 1 / (step + 1), "cla": float("nan")}, step, images=8 * step)
            run.log_image("samples", np.full((8, 8, 3), 90, np.uint8), 4)
    return tmp_path


def test_the_page_is_one_file_that_loads_nothing(folder):
    path = build_report(folder, title="Demo <1>")
    text = path.read_text(encoding="utf-8")
    assert path == folder / "report.html"
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert "Demo &lt;1&gt;" in text


def test_tables_show_every_unit_and_setting_with_its_interval(folder):
    text = build_report(folder).read_text(encoding="utf-8")
    result = json.loads((folder / "crossval" / "crossval.json").read_text())
    for summary in result["settings"].values():
        for interval in [*summary["targets"].values(), summary["mean"]]:
            assert f">{100 * interval['value']:.1f}<" in text
    assert "norface - without" in text
    assert "F1 norface" in text
    assert "0.51" in text


def test_pictures_and_figures_that_are_given_come_first(folder):
    write_png(folder / "grid.png", np.zeros((4, 4, 3), np.uint8))
    figures = [KeyFigure("Faces a second", "26.1", "on two cores")]
    text = build_report(
        folder, figures=figures, pictures={"original | normalized": folder / "grid.png"}
    ).read_text(encoding="utf-8")
    assert "Faces a second" in text
    assert "F1 norface" not in text
    assert text.index("original | normalized") < text.index("F_nor")


def test_curves_and_the_newest_grid_of_each_run_are_there(folder):
    text = build_report(folder).read_text(encoding="utf-8")
    assert text.count('alt="curve"') == 2
    assert "step 4" in text


def test_a_folder_with_nothing_to_show_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="no summary.json, crossval.json or run"):
        build_report(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(CorpusError, match="not valid json"):
        build_report(tmp_path)


def test_long_curves_are_means_of_equal_runs():
    points = [(float(i), 2.0 * i) for i in range(1000)]
    short = smooth(points, most=10)
    assert len(short) == 10
    assert short[0] == (49.5, 99.0)
