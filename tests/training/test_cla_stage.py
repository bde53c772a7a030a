"""Stage `cla`: streams, leaks, selection, ranks; and the cross-validation above it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from marked_faces import stage_options, write_corpus, write_normalized
from ranks import finish
from safetensors.torch import load_file

from norface.cli.main import main
from norface.config import load_config
from norface.data.loader import Draw
from norface.data.shards import ShardIndex
from norface.errors import ConfigError, CorpusError
from norface.evaluation.predictions import read_predictions
from norface.evaluation.protocols import CrossvalConfig, predict_fold
from norface.models.classifier import load_classifier
from norface.models.encoder_files import save_encoder
from norface.models.vit import FaceEncoder, VitConfig
from norface.tracking import read_metrics
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.run import run_stage
from norface.training.stages.cla import ClaStage
from norface.training.stages.cla_config import ClaConfig

CONFIGS = Path(__file__).parents[2] / "configs" / "cla"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    shards = write_corpus(folder / "shards")
    write_normalized(shards, folder / "normalized")
    return folder


@pytest.fixture
def backend():
    made = build_backend(BackendConfig(device="cpu"))
    yield made
    made.close()


@pytest.fixture
def make_config(corpus, tmp_path):
    def make(*overrides: str) -> ClaConfig:
        options = stage_options(corpus / "shards", tmp_path)
        return load_config(ClaConfig, None, [*options, *overrides])

    return make


def test_extractor_starts_from_weights_that_saw_no_test_subject(
    corpus, backend, make_config, tmp_path
):
    sizes = VitConfig(side=16, patch=4, width=16, depth=1, heads=2)
    before, vit = FaceEncoder(sizes).eval(), "model.vit={side: 16, patch: 4, width: 16, depth: 1"
    options = ["model.extractor=vit", vit + ", heads: 2}"]
    clean, leaky = tmp_path / "clean.safetensors", tmp_path / "leaky.safetensors"
    save_encoder(before, clean, source="x", persons=[("celeba", "7")], images=0)
    stage = ClaStage(make_config(*options, f"model.extractor_weights={clean}"), backend)
    faces = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(stage.bare.extractor.encoder(faces), before(faces))
    # What is saved says the path, and is read without the file.
    stage.export(tmp_path)
    clean.unlink()
    model, _ = load_classifier(tmp_path / "classifier.safetensors")
    assert model.config.extractor_weights == clean

    tested = stage.fold.test[0]
    save_encoder(before, leaky, source="x", persons=[tested], images=0)
    leak = [*options, f"model.extractor_weights={leaky}"]
    with pytest.raises(CorpusError, match=f"trained on faces of 1 test subjects.*{tested[1]}"):
        ClaStage(make_config(*leak), backend)
    ClaStage(make_config(*leak, "data.protocol=paper"), backend)
    with pytest.raises(ConfigError, match="only for model.extractor=vit"):
        ClaStage(make_config(f"model.extractor_weights={leaky}"), backend)


def test_a_sample_holds_the_same_face_in_every_stream(corpus, backend, make_config):
    stage = ClaStage(make_config(f"data.normalized=[{corpus / 'normalized'}]"), backend)
    dataset = stage._dataset("train", augmented=False)
    sample = dataset[Draw(3, 0, 0)]
    row = stage.rows["train"][3]
    original = stage.streams.index.read_pixels(row)
    clean = ShardIndex.open(corpus / "normalized")
    normalized = clean.read_pixels(clean.row_of(sample["key"]))
    assert sample["images"].shape == (2, 3, 16, 16)
    for image, pixels in zip(sample["images"], (original, normalized), strict=True):
        expected = torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1
        torch.testing.assert_close(image, expected, atol=1e-6, rtol=0)


def test_the_parts_of_a_fold_share_no_subject(backend, make_config):
    stage = ClaStage(make_config(), backend)
    subjects = stage.streams.index.table["subject"].astype(str).to_numpy()
    parts = [set(subjects[stage.rows[part]]) for part in ("train", "validation", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == 9
    assert set.union(*parts) == {f"S{i:04d}" for i in range(9)}


def test_protocol_paper_trains_on_the_validation_subjects_too_and_takes_the_last_epoch(
    backend, make_config
):
    strict = ClaStage(make_config(), backend)
    paper = ClaStage(make_config("data.protocol=paper"), backend)
    both = [*strict.rows["train"], *strict.rows["validation"]]
    assert sorted(paper.rows["train"]) == sorted(both)
    assert paper.evaluate(1) == {}
    assert paper.best_weights == {}


def test_a_generator_that_saw_a_test_subject_is_refused_unless_the_protocol_is_the_papers(
    corpus, backend, make_config, tmp_path
):
    test = ClaStage(make_config(), backend).fold.test
    leaky = write_normalized(
        corpus / "shards", tmp_path / "leaky", generator="0123456789ab", trained_on=test[:1]
    )
    options = [f"data.normalized=[{leaky}]"]
    with pytest.raises(CorpusError, match=f"trained on 1 test subjects, first {'/'.join(test[0])}"):
        ClaStage(make_config(*options), backend)
    ClaStage(make_config(*options, "data.protocol=paper"), backend)


def test_a_target_that_is_a_test_subject_is_refused(corpus, backend, make_config, tmp_path):
    subject = ClaStage(make_config(), backend).fold.test[0][1]
    target = f"synthetic_{subject}_c_0"
    own = write_normalized(corpus / "shards", tmp_path / "own", target=target)
    with pytest.raises(CorpusError, match=f"target {target} is a test subject"):
        ClaStage(make_config(f"data.normalized=[{own}]"), backend)


def test_a_set_of_other_shards_is_refused(corpus, backend, make_config, tmp_path):
    other = write_normalized(corpus / "shards", tmp_path / "other", source="0" * 64)
    with pytest.raises(CorpusError, match="was made from other shards"):
        ClaStage(make_config(f"data.normalized=[{other}]"), backend)


def test_a_set_that_lacks_a_face_names_the_first_key(backend, make_config, tmp_path):
    few = write_corpus(tmp_path / "few", subjects=3)
    part = write_normalized(few, tmp_path / "part")
    whole = write_corpus(tmp_path / "whole", subjects=4)
    card = json.loads((part / "set.json").read_text())
    card["source"] = ShardIndex.open(whole).digest
    (part / "set.json").write_text(json.dumps(card))
    with pytest.raises(CorpusError, match="8 keys are missing, first synthetic_S0003_c_0"):
        ClaStage(make_config(f"data.shards=[{whole}]", f"data.normalized=[{part}]"), backend)


def test_an_unknown_fold_gets_the_list_of_right_ones(backend, make_config):
    with pytest.raises(ConfigError, match="found 'part9'; there are: test=part1, test=part2"):
        ClaStage(make_config("data.fold=part9"), backend)


def test_units_without_labels_are_refused_by_name(backend, make_config):
    with pytest.raises(CorpusError, match="no au labels for AU4"):
        ClaStage(make_config("units=[1, 4]"), backend)


def test_it_learns_and_keeps_the_epoch_that_was_best_on_validation_subjects(make_config):
    config = make_config("epochs=6", "optimizer.learning_rate=0.01")
    folder = run_stage(ClaStage, config)
    lines = read_metrics(folder)
    validation = {line["step"]: line["validation/f1"] for line in lines if "validation/f1" in line}
    assert len(validation) == 6
    _, about = load_classifier(folder / "classifier.safetensors")
    assert validation[about["chosen_step"]] == max(validation.values())
    assert {"cla", "imp", "global", "local", "loss", "lr"} <= set(lines[0])
    table, task = read_predictions(predict_fold(config, folder))
    assert task == "au"
    assert table["key"].nunique() == 3 * 8
    assert set(table["target"]) == {"AU1", "AU12"}
    right = (table["score"] >= 0.5) == (table["truth"] == 1)
    assert right.mean() > 0.8


def test_evaluate_predicts_for_a_run_folder(make_config, capsys):
    folder = run_stage(ClaStage, make_config("epochs=1"))
    assert main(["evaluate", str(folder)]) == 0
    assert "24 frames of 3 persons" in capsys.readouterr().out
    assert (folder / "predictions.parquet").exists()


def test_nothing_depends_on_the_labels_of_test_subjects(corpus, backend, make_config, tmp_path):
    config = make_config()
    test = [subject for _, subject in ClaStage(config, backend).fold.test]
    turned = write_corpus(tmp_path / "turned", flip_of=tuple(test))
    one = run_stage(ClaStage, make_config("name=one"))
    other = run_stage(ClaStage, make_config("name=other", f"data.shards=[{turned}]"))
    first, second = (load_file(folder / "classifier.safetensors") for folder in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_ranks_of_half_the_batch_are_one_rank(corpus, make_config):
    common = [f"data.normalized=[{corpus / 'normalized'}]", "losses.importance=1", "epochs=1"]
    one = make_config("name=one", *common)
    two = make_config("name=two", *common, "trainer.batch_per_rank=4")
    finish(one, 1, stage=ClaStage)
    finish(two, 2, stage=ClaStage)
    first, second = (load_file(c.root / c.name / "classifier.safetensors") for c in (one, two))
    for name in first:
        # Adam amplifies rounding: one unit of it (6e-8) in the starting weights of a single rank
        # moves the worst weight by 7e-5 in this epoch.
        torch.testing.assert_close(first[name], second[name], atol=2e-4, rtol=1e-3)
    lines = [read_metrics(c.root / c.name) for c in (one, two)]
    for left, right in zip(*lines, strict=True):
        for name in ("loss", "imp", "global", "local"):
            if name in left:
                assert left[name] == pytest.approx(right[name], abs=1e-5)


@pytest.mark.parametrize("task", ["au", "emotion"])
def test_two_ranks_mix_the_partners_that_one_rank_mixes(task, make_config):
    common = [f"task={task}", "mix.mixup=1", "mix.cutmix=1", "epochs=1"]
    one = make_config("name=one", *common)
    two = make_config("name=two", *common, "trainer.batch_per_rank=4")
    plain = make_config("name=plain", f"task={task}", "epochs=1")
    finish(one, 1, stage=ClaStage)
    finish(two, 2, stage=ClaStage)
    finish(plain, 1, stage=ClaStage)
    first, second, other = (
        [line["loss"] for line in read_metrics(c.root / c.name) if "loss" in line]
        for c in (one, two, plain)
    )
    assert first == pytest.approx(second, abs=1e-4)
    assert first != pytest.approx(other, abs=1e-2)


@pytest.mark.parametrize(
    ("task", "targets"),
    [("intensity", {"AU1", "AU12"}), ("emotion", {"neutral", "happiness"})],
)
def test_the_other_tasks_train_and_predict(task, targets, make_config):
    config = make_config(f"task={task}", "losses.class_weights=true")
    folder = run_stage(ClaStage, config)
    table, found = read_predictions(predict_fold(config, folder))
    assert found == task
    assert set(table["target"]) == targets
    if task == "emotion":
        assert table.groupby("key")["score"].sum().to_numpy() == pytest.approx(1, abs=1e-5)


def test_crossval_compares_settings_and_trains_nothing_twice(corpus, tmp_path, capsys):
    index = ShardIndex.open(corpus / "shards")
    keys = index.table["key"].to_numpy(str)
    np.savez(tmp_path / "critics.npz", keys=keys, features=index.labels("au", [1, 12]))
    options = [
        "cla." + text
        for text in stage_options(corpus / "shards", tmp_path)
        if not text.startswith(("root", "tracking"))
    ]
    words = ["crossval", *options, "cla.epochs=1", f"root={tmp_path}", "tracking.mlflow=false"]
    words += ["settings.without=null", f"settings.features={tmp_path / 'critics.npz'}"]
    assert main([*words, "only=[test=part2]"]) == 0
    assert "4 folds are not trained yet" in capsys.readouterr().out
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "features - without" in text
    result = json.loads((tmp_path / "crossval" / "crossval.json").read_text())
    assert list(result["settings"]) == ["without", "features"]
    assert result["settings"]["without"]["frames"] == 72
    paths = sorted((tmp_path / "crossval").glob("without/seed0/*/predictions.parquet"))
    tables = pd.concat(map(pd.read_parquet, paths))
    assert sorted(tables["key"].unique()) == sorted(keys)
    before = [path.stat().st_mtime_ns for path in paths]
    assert main(words) == 0
    assert [path.stat().st_mtime_ns for path in paths] == before


@pytest.mark.slow
def test_folds_trained_at_once_predict_what_they_predict_one_after_the_other(
    corpus, tmp_path, capsys
):
    options = [
        "cla." + text
        for text in stage_options(corpus / "shards", tmp_path)
        if not text.startswith(("root", "tracking"))
    ]
    for processes in (1, 2):
        root = tmp_path / str(processes)
        words = ["crossval", *options, "cla.epochs=1", f"root={root}", "tracking.mlflow=false"]
        assert main([*words, f"processes={processes}"]) == 0
    tables = [
        pd.concat(map(pd.read_parquet, sorted((tmp_path / n).rglob("predictions.parquet"))))
        for n in ("1", "2")
    ]
    assert list(tables[0]["key"]) == list(tables[1]["key"])
    np.testing.assert_allclose(tables[0]["score"], tables[1]["score"], atol=1e-5)
    logs = sorted((tmp_path / "2").rglob("log.txt"))
    assert len(logs) == 3 and all("cla:" in log.read_text() for log in logs)
    # A fold that cannot be trained ends the whole in one line.
    words = ["crossval", *options, f"root={tmp_path / '3'}", "tracking.mlflow=false"]
    capsys.readouterr()
    assert main([*words, "processes=2", "settings.bad=/nowhere"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("norface crossval: /nowhere")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_committed_configs_are_valid_and_use_a_cosine(path):
    config = load_config(CrossvalConfig, path)
    assert config.cla.schedule.kind == "cosine"
    assert config.cla.augment.flip == 0.5
