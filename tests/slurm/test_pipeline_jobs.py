"""`slurm/pipeline.sh` on four real nodes of which two die: the same folds as without Slurm."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tiny_nor import SIDE, tiny_nor, write_noise

from norface.cli.main import main

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SCRIPT = str(Path(__file__).parents[2] / "slurm" / "pipeline.sh")
FOLDS = ("test=part1", "test=part2", "test=part3")
TARGETS = dict.fromkeys(FOLDS, "other_S0000_c_1")


def write_work(folder: Path) -> Path:
    """Shards, and a pipeline whose second fold has a target that is not there."""
    write_noise(folder / "noise")
    write_corpus(folder / "faces")
    write_corpus(folder / "targets", subjects=1, corpus="other")
    conv = {"extractor": "conv", "conv": {"side": SIDE, "channels": [8, 8], "width": 16}}
    config = {
        "name": "p",
        "pretrain": {"settings": {
            **tiny_nor(steps=20, batch_per_rank=2, ranks=2), "data.shards": ["noise"],
        }},
        "finetune": {"settings": tiny_nor(steps=40, batch_per_rank=4)},
        "normalize": {"target_shards": "targets", "jobs": 2, "check_target": False,
                      "target_key": {**TARGETS, "test=part2": "nobody"}},
        "crossval": {"settings": {
            "tracking.mlflow": False,
            "cla": {"units": [1, 12], "epochs": 2, "data": {"shards": ["faces"], "cache": True},
                    "model": conv, "trainer": {"batch_per_rank": 8}, "backend": {"device": "cpu"}},
        }},
        "cluster": {"pretrain": {"nodes": 2}},
    }  # fmt: skip
    (folder / "p.yaml").write_text(yaml.safe_dump(config))
    return folder


def submit(cluster, folder: Path) -> dict[str, str]:
    """Step => `done` or its job, as the table says."""
    table = cluster.call(SCRIPT, "p.yaml", "--time", "1:00:00", cwd=folder)
    return dict(line.split()[:2] for line in table.splitlines()[1:])


def kill_node_of(cluster, job: str) -> str:
    """Takes the power of a node that runs the job, as soon as one does."""
    running = ("squeue", "-h", "-r", "-t", "RUNNING", "-j", job, "-o", "%N")
    node = cluster.wait_until(
        lambda: cluster.call(*running), f"{job} to run", timeout_s=900, job=job
    )
    node = node.split()[0]
    cluster.tool("kill-node", node)
    return node


def test_three_folds_survive_two_dead_nodes_and_a_fold_that_fails_is_mended(
    tmp_path, cluster_of, monkeypatch
):
    folder = write_work(tmp_path / "work")
    with cluster_of(4) as cluster:
        jobs = submit(cluster, folder)
        assert len(jobs) == 1 + 3 * 3 + 1
        lost = [kill_node_of(cluster, jobs["finetune:test=part1"])]
        lost.append(kill_node_of(cluster, jobs["classify:test=part3"]))
        assert len(set(lost)) == 2
        # The second fold cannot be normalized; the others go on, and the summary says so.
        assert cluster.wait_for(jobs["summary"], timeout_s=1500) == "FAILED", cluster.report("")
        said = cluster.log(jobs["summary"])
        assert "2 folds are not trained yet: without/seed0/test=part2, norface/seed0" in said
        log = f"runs/p/logs/normalize:test=part2-{jobs['normalize:test=part2']}_1.out"
        assert "nobody" in (folder / log).read_text()
        assert not (folder / "runs/p/crossval/crossval.json").exists()
        assert cluster.restarts(jobs["finetune:test=part1"]) >= 1
        # Mended, the same command submits what is missing and nothing else.
        values = yaml.safe_load((folder / "p.yaml").read_text())
        values["normalize"]["target_key"] = TARGETS
        (folder / "p.yaml").write_text(yaml.safe_dump(values))
        again = submit(cluster, folder)
        assert {name for name, state in again.items() if state != "done"} == {
            "normalize:test=part2", "classify:test=part2", "summary",
        }  # fmt: skip
        assert cluster.wait_for(again["summary"], timeout_s=900) == "COMPLETED", cluster.report(
            again["summary"]
        )
        assert set(submit(cluster, folder).values()) == {"done"}
    result = json.loads((folder / "runs/p/crossval/crossval.json").read_text())
    assert result["settings"]["norface"]["frames"] == 72
    record = json.loads((folder / "runs/p/pipeline.json").read_text())
    snapshot = folder / "runs/p/submitted" / record["classify:test=part3"]["snapshot"]
    compare_with_one_process(tmp_path / "plain", folder, snapshot, monkeypatch)


def compare_with_one_process(plain: Path, folder: Path, snapshot: Path, monkeypatch) -> None:
    """The fold that was hit twice, from its frozen configs, without Slurm: the same scores."""
    plain.mkdir()
    for name in ("noise", "faces", "targets"):
        (plain / name).symlink_to(folder / name)
    # Two ranks pre-trained; from their networks on it is one.
    monkeypatch.chdir(plain)
    (plain / "runs/p/pretrain").mkdir(parents=True)
    for name in ("generator.safetensors", "discriminator.safetensors"):
        (plain / "runs/p/pretrain" / name).symlink_to(folder / "runs/p/pretrain" / name)
    for number in (1, 3):
        assert main(["train", "nor", "-c", str(snapshot / f"finetune-{number}.yaml")]) == 0
        assert main(["normalize", "-c", str(snapshot / f"normalize-{number}-1.yaml")]) == 0
        fold = FOLDS[number - 1]
        words = ["crossval", "-c", str(snapshot / "crossval.yaml"), f"only=[{fold}]", "part=1/1"]
        assert main(words) == 0
        for setting in ("without", "norface"):
            path = f"runs/p/crossval/{setting}/seed0/{fold}/predictions.parquet"
            pd.testing.assert_frame_equal(
                pd.read_parquet(plain / path), pd.read_parquet(folder / path), check_exact=True
            )
