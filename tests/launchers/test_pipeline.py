"""The graph of jobs: who waits for whom, what is done, what a second start submits."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from launchers.cluster import ClusterConfig
from launchers.graph import build_graph
from launchers.pipeline import DONE, RECORD, SUBMIT, main, plan, sbatch_command
from launchers.pipeline_config import PipelineConfig
from norface.config import load_config
from norface.errors import ConfigError

sys.path.append(str(Path(__file__).parents[1] / "training"))
from marked_faces import write_corpus

FOLDS = ("test=part1", "test=part2", "test=part3")
CONFIG = {
    "name": "p",
    "prepare": {"raw": {"corpus": "folder", "root": "raw", "out": "pre", "jobs": 4}},
    "pretrain": {"settings": {"data.shards": ["pre"], "backend.device": "cpu"}},
    "normalize": {"target_image": "target.png", "jobs": 2},
    "crossval": {"settings": {"cla.data.shards": ["shards"], "seeds": [0, 1]}},
    "cluster": {"pretrain": {"nodes": 8}},
}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(*changes: str, cluster: ClusterConfig | None = None):
    Path("p.yaml").write_text(yaml.safe_dump(CONFIG))
    config = load_config(PipelineConfig, "p.yaml", changes)
    return config, build_graph(config, cluster or ClusterConfig())


def by_name(graph):
    return {step.name: step for step in graph.steps}


def test_folds_go_their_own_ways_and_meet_in_the_summary(place):
    _, graph = build()
    steps = by_name(graph)
    after = {name: step.after for name, step in steps.items()}
    assert after["prepare:raw"] == () and after["pretrain"] == ("prepare:raw",)
    for fold in FOLDS:
        assert after[f"finetune:{fold}"] == ("pretrain",)
        assert after[f"normalize:{fold}"] == (f"finetune:{fold}",)
        assert after[f"classify:{fold}"] == (f"normalize:{fold}",)
        # Two settings (without, norface) x two seeds.
        assert steps[f"classify:{fold}"].jobs == 4
    assert after["summary"] == tuple(f"classify:{fold}" for fold in FOLDS)
    assert [steps[name].jobs for name in ("prepare:raw", "normalize:test=part1")] == [4, 2]
    order = list(steps)
    assert all(order.index(one) < order.index(name) for name in order for one in after[name])


def test_each_fold_is_fine_tuned_on_its_train_subjects_from_the_pre_trained_generator(place):
    _, graph = build("crossval.settings={cla.data.shards: [shards], cla.data.folds: disfa}")
    for number, fold in enumerate(FOLDS, 1):
        nor = graph.files[f"finetune-{number}.yaml"]
        assert (nor.fold.folds, nor.fold.fold) == ("disfa", fold)
        assert str(nor.generator) == "runs/p/pretrain/generator.safetensors"
        assert [str(one) for one in nor.data.shards] == ["shards"]
        normalize = graph.files[f"normalize-{number}-1.yaml"]
        assert str(normalize.generator) == f"runs/p/finetune/{fold}/generator.safetensors"
        assert str(normalize.out) == f"runs/p/normalized/{fold}/1"
    settings = graph.files["crossval.yaml"].settings
    assert [str(one) for one in settings["norface"].normalized] == [
        "runs/p/normalized/{fold}/1/*/*"
    ]
    assert settings["without"].normalized == []


def test_the_papers_protocol_fine_tunes_once_on_everybody(place):
    _, graph = build("crossval.settings={cla.data.shards: [a, b], cla.data.protocol: paper}")
    steps = by_name(graph)
    assert [name for name in steps if name.startswith("finetune")] == ["finetune:all"]
    assert graph.files["finetune-1.yaml"].fold is None
    # Two folders of shards: two sets, which together are one stream.
    assert steps["classify:test=part2"].after == ("normalize:all:1", "normalize:all:2")
    assert [[str(one) for one in stream] for stream in
            graph.files["crossval.yaml"].settings["norface"].normalized] == [
        ["runs/p/normalized/all/1/*/*", "runs/p/normalized/all/2/*/*"]
    ]  # fmt: skip
    # Also where the config of the fine-tuning is that of a fold.
    _, graph = build("crossval.settings={cla.data.shards: [shards], cla.data.protocol: paper}",
                     "finetune.settings={fold.fold: test=part2}")  # fmt: skip
    assert graph.files["finetune-1.yaml"].fold is None


def test_steps_ask_for_what_they_can_use(place):
    cluster = ClusterConfig(nodes=2, gpus_per_node=8, cpus_per_rank=4, account="mine")
    _, graph = build(cluster=cluster)
    asked = {kind: (one.nodes, one.ranks, one.gpus_per_node)
             for kind, one in graph.resources.items()}  # fmt: skip
    assert asked == {
        "prepare": (1, 1, 0), "pretrain": (8, 8, 8), "finetune": (2, 8, 8),
        "normalize": (1, 1, 1), "classify": (1, 8, 8), "summary": (1, 1, 0),
    }  # fmt: skip
    assert {one.account for one in graph.resources.values()} == {"mine"}
    step = by_name(graph)["summary"]
    command = sbatch_command(step, graph.resources["summary"], Path("/s"), Path("runs/p"), ["7"])
    assert command[-2:] == ["/s/slurm/crossval.sh", "/s/crossval.yaml"]
    assert "--dependency=afterany:7" in command and "--account=mine" in command
    step = by_name(graph)["normalize:test=part1"]
    command = sbatch_command(step, graph.resources["normalize"], Path("/s"), Path("p"), ["8", "9"])
    assert {"--array=1-2", "--dependency=afterok:8:9", "--kill-on-invalid-dep=yes"} < set(command)


def leave(step_folder: Path, **files: str) -> None:
    step_folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (step_folder / name.replace("_", ".")).write_text(text)


def test_only_what_is_neither_done_nor_queued_is_submitted_and_what_waits_for_it(place):
    config, graph = build()
    finished = json.dumps({"status": "finished"})
    leave(place / "pre", index_parquet="")
    for name in ("pretrain", "finetune/test=part1", "finetune/test=part2"):
        leave(config.folder / name, run_json=finished, generator_safetensors="")
    leave(config.folder / "normalized" / "test=part1" / "1" / "T" / "0123", index_parquet="")
    record = {
        "classify:test=part1": {"job": "11"}, "normalize:test=part2": {"job": "12"},
        "finetune:test=part3": {"job": "13"}, "normalize:test=part3": {"job": "14"},
        "summary": {"job": "15"},
    }  # fmt: skip
    # 12 failed, 13 runs; 14 and the summary wait.
    states = plan(graph, record, {"11", "13", "14", "15"})
    assert {name: state for name, state in states.items() if state == DONE} == dict.fromkeys(
        ("prepare:raw", "pretrain", "finetune:test=part1", "finetune:test=part2",
         "normalize:test=part1"), DONE,
    )  # fmt: skip
    assert (states["classify:test=part1"], states["normalize:test=part3"]) == ("11", "14")
    for name in ("normalize:test=part2", "classify:test=part2", "classify:test=part3", "summary"):
        assert states[name] == SUBMIT, name
    # A run that was stopped is not finished.
    leave(config.folder / "pretrain", run_json=json.dumps({"status": "stopped"}))
    assert set(plan(graph, {}, set()).values()) == {DONE, SUBMIT}
    assert plan(graph, {}, set())["finetune:test=part1"] == SUBMIT


def test_folds_are_those_of_the_shards_where_they_are_there(place):
    write_corpus(place / "shards", subjects=5)
    _, graph = build("crossval.settings={cla.data.shards: [shards], cla.data.parts: 5}")
    assert sum(step.kind == "classify" for step in graph.steps) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("normalize={}", "normalize: set exactly one of target_key and target_image"),
        ("normalize={target_key: {test=part1: a}}", "no target for the fold 'test=part2'"),
        ("pretrain=null", "finetune.settings must name a generator"),
        ("crossval.settings.part=1/3", "part and only are set by the pipeline"),
        ("crossval.settings.cla.data.folds=corpora", "prepare them first"),
        ("finetune.settings={trainer.image: 3}", "'finetune.settings.trainer.image'; did you"),
        ("cluster={clasify: {}}", "cluster: found 'clasify'; there are: prepare, pretrain"),
        ("cluster={pretrain: {container: a}}", "cluster.pretrain.container: is one for all"),
        ("cluster={pretrain: {node: 2}}", "'cluster.pretrain.node'; did you mean 'nodes'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_queued(place, change, said):
    with pytest.raises(ConfigError, match=said):
        build(change)
    assert not (place / "runs").exists()


def test_the_table_is_printed_without_slurm_and_queueing_needs_it(place, capsys, monkeypatch):
    Path("p.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.setenv("PATH", os.path.dirname(shutil.which("bash") or "/bin/bash"))
    assert main(["--dry-run", "--nodes", "2", "p.yaml", "cluster.finetune.nodes=4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 1 + 1 + 3 * 3 + 1
    assert lines[3].split() == ["finetune:test=part1", "to", "submit", "1", "4", "x", "1",
                                "ranks,", "1-00:00:00", "pretrain"]  # fmt: skip
    assert not (place / "runs").exists()
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["p.yaml"]) == 2
    assert "sbatch: not found; start it on a login node" in capsys.readouterr().err
    assert not (place / "runs" / "p" / RECORD).exists()
