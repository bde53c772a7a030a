"""One tiny job of each remaining script of slurm/, on two real nodes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny_nor import SIDE, tiny_nor

from norface.data.folds import make_folds
from norface.data.normalized import read_set
from norface.data.shards import ShardIndex
from norface.models.normalizer import Normalizer, NormalizerConfig, load_generator, save_generator

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus

pytestmark = pytest.mark.slurm

SCRIPTS = Path(__file__).parents[2] / "slurm"
CONV = {"extractor": "conv", "conv": {"side": SIDE, "channels": [8, 8], "width": 16}}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """Nine persons with labels, a target, an untrained generator, and configs."""
    folder = tmp_path_factory.mktemp("work")
    write_corpus(folder / "faces")
    write_corpus(folder / "targets", subjects=1, corpus="other")
    nor = tiny_nor(steps=4, batch_per_rank=4)
    (folder / "nor.yaml").write_text(yaml.safe_dump({**nor, "data": {"shards": ["faces"]}}))
    torch.manual_seed(0)
    generator = Normalizer(NormalizerConfig.model_validate(nor["normalizer"]))
    save_generator(generator, folder / "before.safetensors", persons=[("celeba", "1")])
    cla = {
        "units": [1, 12], "epochs": 1, "data": {"shards": ["faces"], "cache": True}, "model": CONV,
        "trainer": {"batch_per_rank": 8}, "backend": {"device": "cpu"},
        "tracking": {"mlflow": False},
    }  # fmt: skip
    (folder / "cla.yaml").write_text(yaml.safe_dump(cla))
    mae = {
        "data": {"shards": ["faces"]},
        "model": {
            "encoder": {"side": SIDE, "patch": 4, "width": 32, "depth": 1, "heads": 2},
            "decoder": {"width": 32, "depth": 1, "heads": 2},
        },
        "trainer": {"images": 16, "batch_per_rank": 8, "sample_every_steps": 0},
        "backend": {"device": "cpu"}, "tracking": {"mlflow": False},
    }  # fmt: skip
    (folder / "mae.yaml").write_text(yaml.safe_dump(mae))
    return folder


def queue(cluster, workplace: Path, script: str, *words: str, **environment: str) -> str:
    """A script that queues itself; its job's number."""
    return cluster.call(str(SCRIPTS / script), *words, cwd=workplace, **environment)


def test_fine_tuning_normalizing_and_classifying_a_fold_follow_each_other(cluster, workplace):
    fold = next(iter(make_folds(ShardIndex.open(workplace / "faces").persons,
                                validation_share=0.15)))  # fmt: skip
    first = queue(
        cluster, workplace, "finetune_nor.sh", "nor.yaml", "generator=before.safetensors",
        f"fold.fold={fold.name}", "name=fine",
    )  # fmt: skip
    generator = "runs/fine/generator.safetensors"
    second = queue(
        cluster, workplace, "normalize.sh", "--array=1-2", f"--dependency=afterok:{first}",
        f"generator={generator}", "source=faces", "target_shards=targets",
        "target_key=other_S0000_c_1", "check_target=false", "out=normalized",
    )  # fmt: skip
    third = queue(
        cluster, workplace, "train_cla.sh", f"--dependency=afterok:{second}", "cla.yaml",
        f"data.fold={fold.name}", "data.normalized=[normalized/*/*]", "name=fold",
        NORFACE_RANKS_PER_NODE="2",
    )  # fmt: skip
    # No real image here: what would start one is replaced by what it would start.
    apptainer = workplace / "bin" / "apptainer"
    apptainer.parent.mkdir()
    apptainer.write_text(
        '#!/usr/bin/env bash\nprintf "%s|" "$@" >>bin/said\n'
        f'while [[ $1 != python3 ]]; do shift; done\nexec {sys.executable} "${{@:2}}"\n'
    )
    apptainer.chmod(0o755)
    mae = queue(
        cluster, workplace, "train_mae.sh", "mae.yaml", NORFACE_CONTAINER="my image.sif",
        PATH=f"{apptainer.parent}:{cluster.environment['PATH']}",
    )  # fmt: skip
    # A job of train_cla asks for two ranks on the one CPU that it was given.
    assert cluster.wait_for(third) == "FAILED", cluster.report(third)
    assert "2 ranks share 1 CPU(s) of a node; ask for more" in cluster.log(third)
    again = queue(
        cluster, workplace, "train_cla.sh", "--cpus-per-task=2", "cla.yaml",
        f"data.fold={fold.name}", "data.normalized=[normalized/*/*]", "name=fold",
        NORFACE_RANKS_PER_NODE="2",
    )  # fmt: skip
    for job in (mae, again):
        assert cluster.wait_for(job) == "COMPLETED", cluster.report(job)
    _, card = load_generator(workplace / generator)
    assert set(card.persons) == {("celeba", "1"), *fold.train}
    (made,) = (workplace / "normalized").glob("*/*")
    assert set(read_set(made).trained_on) == set(card.persons)
    assert len(ShardIndex.open(made)) == len(ShardIndex.open(workplace / "faces"))
    about = json.loads((workplace / "runs" / "fold" / "run.json").read_text())
    assert about["status"] == "finished" and "2 ranks on 1 nodes" in cluster.log(again)
    assert (workplace / "runs" / "mae" / "encoder.safetensors").is_file()
    said = (workplace / "bin" / "said").read_text()
    (snapshot,) = (workplace / "runs" / "mae" / "submitted").iterdir()
    assert f"exec|--bind|{workplace},{snapshot}|--pwd|{workplace}|my image.sif|python3|-m|" in said


def test_mistakes_are_told_on_the_login_node(cluster, workplace):
    with pytest.raises(AssertionError, match="fine-tuning starts from a generator; add"):
        queue(cluster, workplace, "finetune_nor.sh", "nor.yaml")
    with pytest.raises(AssertionError, match="absent.yaml: no such config file"):
        queue(cluster, workplace, "train_cla.sh", "absent.yaml")
    assert cluster.call("squeue", "-h", "-o", "%i") == ""


def test_a_tracking_server_is_reached_where_it_was_told_to_listen(cluster, workplace):
    alone = queue(cluster, workplace, "mlflow.sh", "--nodelist=node1", "alone", "port=5011")
    shared = queue(
        cluster, workplace, "mlflow.sh", "--nodelist=node2", "shared", "host=node2", "port=5012"
    )
    urls = []
    for job in (alone, shared):
        cluster.wait_until(
            lambda job=job: "startup complete" in cluster.log(job), "MLflow", job=job
        )
        urls.append(re.search(r"MLFLOW_TRACKING_URI=(\S+)", cluster.log(job))[1])
    assert urls == ["http://127.0.0.1:5011", "http://node2:5012"]
    assert "warning: no passwords" in cluster.log(shared)
    assert "warning" not in cluster.log(alone)
    ask = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1] + '/health').read())"

    def reached(node: str, url: str) -> str:
        return cluster.call("srun", "-w", node, "-n1", sys.executable, "-c", ask, url)

    assert reached("node1", urls[0]) == reached("node1", urls[1]) == "b'OK'"
    with pytest.raises(AssertionError, match="Connection refused"):
        reached("node2", "http://node1:5011")
    assert (workplace / "shared" / "mlflow.db").is_file()
