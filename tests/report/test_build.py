"""The report page, from a real run folder."""

import json

import numpy as np
import pytest

from norface.errors import CorpusError
from norface.report import build_report
from norface.tracking import TrackingConfig, open_run


def test_page_holds_curves_pictures_and_figures_of_a_run(tmp_path):
    folder = tmp_path / "demo"
    tracking = TrackingConfig(mlflow=False)
    with open_run(folder, kind="nor", tracking=tracking, root=tmp_path) as run:
        for step in (1, 2, 3):
            run.log({"loss": 1 / step, "rec": 0.5 / step}, step=step)
        run.log_image("samples", np.full((8, 8, 3), 200, np.uint8), step=3)
    (tmp_path / "summary.json").write_text(json.dumps({"au_r": 0.512, "yaw_spread_cut": 0.83}))
    page = build_report(tmp_path, title="A trial").read_text()
    assert "A trial" in page and "0.51" in page and "83.0 %" in page
    assert page.count("data:image/") >= 2
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_folder_with_nothing_to_show_is_one_line(tmp_path):
    with pytest.raises(CorpusError, match="no summary.json, crossval.json or run"):
        build_report(tmp_path)
