"""`slurm/crossval.sh` on two real nodes: an array of folds, and a summary that waits for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus

pytestmark = pytest.mark.slurm

SCRIPT = str(Path(__file__).parents[2] / "slurm" / "crossval.sh")
CONFIG = {
    "cla": {
        "units": [1, 12],
        "epochs": 1,
        "data": {"shards": ["shards"], "cache": True},
        "model": {"extractor": "conv", "conv": {"side": 16, "channels": [8, 8], "width": 16}},
        "trainer": {"batch_per_rank": 8},
        "backend": {"device": "cpu"},
    },
    "tracking": {"mlflow": False},
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with a tiny corpus and the config of a tiny cross-validation."""
    folder = tmp_path_factory.mktemp("work")
    write_corpus(folder / "shards")
    (folder / "cla.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


def start(cluster, workplace: Path, *settings: str) -> tuple[str, str]:
    """Ids of the array and of the summary."""
    array, summary = cluster.call(
        SCRIPT, "--time=1:00:00", "cla.yaml", *settings, cwd=workplace
    ).split()[-2:]
    return array, summary


def test_folds_run_as_an_array_and_the_summary_follows(cluster, workplace):
    array, summary = start(cluster, workplace, "name=whole")
    # Whatever comes of the folds; what it says of those that failed: test_pipeline_jobs.py.
    assert f"afterany:{array}" in cluster.call("squeue", "-h", "-j", summary, "-o", "%E")
    assert cluster.wait_for(summary) == "COMPLETED", cluster.report(summary)
    result = json.loads((workplace / "runs" / "whole" / "crossval.json").read_text())
    assert result["settings"]["without"]["frames"] == 72
    assert "f1 in %, 72 frames of 9 persons" in cluster.log(summary)
    logs = sorted(workplace.glob(f"crossval-{array}_*.out"))
    assert [f"part {i}/3" in log.read_text() for i, log in enumerate(logs, 1)] == [True] * 3


def test_a_wrong_config_is_told_before_anything_is_queued(cluster, workplace):
    with pytest.raises(AssertionError, match="unknown key 'cla.epoch'; did you mean 'epochs'"):
        start(cluster, workplace, "cla.epoch=1")
    assert cluster.call("squeue", "-h", "-o", "%i") == ""
