"""Stage `cla`: streams, leaks, selection, ranks; and the cross-validation above it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from marked_faces import write_corpus, write_normalized
from ranks import finish
from safetensors.torch import load_file

from norface.cli.main import main
from norface.config import load_config
from norface.data.loader import Draw
from norface.data.normalized import digest_pixels
from norface.data.shards import ShardIndex
from norface.errors import ConfigError
from norface.evaluation.crossval_config import CrossvalConfig
from norface.evaluation.predictions import read_predictions
from norface.evaluation.protocols import predict_fold
from norface.images import write_png
from norface.models.classifier import load_classifier
from norface.tracking import read_facts, read_metrics
from norface.training.run import run_stage
from norface.training.stages.cla import ClaStage

CONFIGS = Path(__file__).parents[2] / "configs" / "cla"


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
        assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1))


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


def test_evaluation_reads_each_picture_of_each_stream_once(corpus, backend, make_config):
    normalized = f"data.normalized=[{corpus / 'normalized'}]"
    stage = ClaStage(make_config(normalized, "data.cache=false"), backend)
    reads = Counter()

    class CountingIndex(ShardIndex):
        def read_pixels(self, row):
            reads[self.name, self.key_of(row)] += 1
            return super().read_pixels(row)

    for index in (stage.streams.index, *stage.streams.sets):
        index.__class__ = CountingIndex
    for part, evaluate in (
        ("validation", lambda: (stage.evaluate(1), stage.figures())),
        ("test", stage.predict),
    ):
        reads.clear()
        evaluate()
        assert set(reads.values()) == {1}
        assert len(reads) == 2 * len(stage.rows[part])


def test_a_classifier_and_its_run_name_generator_and_target_of_their_faces(
    corpus, make_config, tmp_path
):
    other = write_normalized(corpus / "shards", tmp_path / "other", generator="0123456789ab")
    pixels = np.full((16, 16, 3), 77, np.uint8)
    write_png(other / "target.png", pixels)
    folder = run_stage(ClaStage, make_config(f"data.normalized=[{other}]", "epochs=1"))
    _, about = load_classifier(folder / "classifier.safetensors")
    source = {"generators": ["0123456789ab"], "target": "other_T0000_c_0"}
    assert about["normalized"] == [{**source, "picture": digest_pixels(pixels)}]
    tags = read_facts(folder)["tags"]
    assert (tags["generator"], tags["target"]) == ("0123456789ab", "other_T0000_c_0")


def test_evaluate_predicts_for_a_run_folder(make_config, capsys):
    folder = run_stage(ClaStage, make_config("epochs=1"))
    assert main(["evaluate", str(folder)]) == 0
    assert "24 frames of 3 persons" in capsys.readouterr().out
    assert (folder / "predictions.parquet").exists()


@pytest.mark.parametrize("protocol", ["strict", "paper"])
@pytest.mark.parametrize(("task", "highest"), [("au", 1), ("intensity", 5), ("emotion", 1)])
def test_neither_the_chosen_epoch_nor_a_score_depends_on_the_labels_of_test_subjects(
    task, highest, protocol, backend, make_config, tmp_path
):
    test = [subject for _, subject in ClaStage(make_config(), backend).fold.test]
    turned = write_corpus(tmp_path / "turned", flip_of=tuple(test))
    common = [f"task={task}", f"data.protocol={protocol}", "epochs=4"]
    common += ["optimizer.learning_rate=0.01", f"losses.class_weights={task != 'intensity'}"]
    one, other = (
        make_config("name=one", *common),
        make_config("name=other", *common, f"data.shards=[{turned}]"),
    )
    folders = [run_stage(ClaStage, config) for config in (one, other)]
    first, second = (load_file(folder / "classifier.safetensors") for folder in folders)
    for name, weights in first.items():
        assert torch.equal(weights, second[name]), name
    steps = [load_classifier(folder / "classifier.safetensors")[1] for folder in folders]
    assert steps[0]["chosen_step"] == steps[1]["chosen_step"]
    tables = [
        read_predictions(predict_fold(config, folder))[0]
        for config, folder in zip((one, other), folders, strict=True)
    ]
    np.testing.assert_array_equal(tables[0]["score"], tables[1]["score"])
    # The labels that could have leaked are truly others.
    np.testing.assert_array_equal(tables[0]["truth"], highest - tables[1]["truth"])


class WatchedStage(ClaStage):
    """Writes the gradients of its first steps, as the optimizer sees them, to ROOT/NAME."""

    def train_batch(self, batch, step):
        losses = super().train_batch(batch, step)
        if self.backend.is_main and step < 2:
            found = {name: p.grad.clone() for name, p in self.bare.named_parameters()}
            torch.save((losses["loss"], found), self.config.root / f"{self.config.name}-{step}.pt")
        return losses


@pytest.mark.parametrize("task", ["au", "intensity", "emotion"])
def test_two_ranks_of_half_the_batch_have_the_loss_and_gradients_of_one(task, corpus, make_config):
    # The first step is free of what Adam made of rounding; noise, augmentation, mixing are on.
    common = [f"task={task}", f"data.normalized=[{corpus / 'normalized'}]", "epochs=1"]
    common += ["mix.mixup=0.4", "losses.importance=1", "losses.global_local=1"]
    common += [f"losses.class_weights={task != 'intensity'}"]
    one = make_config("name=one", *common)
    two = make_config("name=two", *common, "trainer.batch_per_rank=4")
    finish(one, 1, stage=WatchedStage)
    finish(two, 2, stage=WatchedStage)
    (loss, gradients), (loss_of_two, gradients_of_two) = (
        torch.load(one.root / f"{name}-0.pt") for name in ("one", "two")
    )
    assert loss.item() == pytest.approx(loss_of_two.item(), abs=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, gradients_of_two[name], atol=1e-5, rtol=1e-5)
    assert sum(gradient.abs().sum() for gradient in gradients.values()) > 0
    assert gradients["input_moe.0.router.noise.weight"].abs().sum() > 0


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
    weighted = f"losses.class_weights={str(task == 'emotion').lower()}"
    config = make_config(f"task={task}", weighted)
    folder = run_stage(ClaStage, config)
    table, found = read_predictions(predict_fold(config, folder))
    assert found == task
    assert set(table["target"]) == targets
    if task == "emotion":
        assert table.groupby("key")["score"].sum().to_numpy() == pytest.approx(1, abs=1e-5)


def test_intensities_have_no_class_weights(make_config):
    with pytest.raises(ConfigError, match="'losses.class_weights' is for 'task' au or emotion"):
        make_config("task=intensity", "losses.class_weights=true")


def test_tokens_positions_biases_and_norms_do_not_decay(backend, make_config):
    vit = "model.vit={side: 16, patch: 8, width: 16, depth: 1, heads: 2}"
    stage = ClaStage(make_config("model.extractor=vit", vit), backend)
    names = {id(p): name for name, p in stage.bare.named_parameters()}
    decay = {
        names[id(p)]: group["weight_decay"]
        for group in stage.optimizer.param_groups
        for p in group["params"]
    }
    encoder = "extractor.encoder.vit."
    assert {name.removeprefix(encoder) for name, rate in decay.items() if rate == 0} >= {
        "pos_embed", "cls_token", "patch_embed.proj.bias", "blocks.0.norm1.weight", "head.bias"
    }  # fmt: skip
    for name in ("head.weight", encoder + "patch_embed.proj.weight"):
        assert decay[name] == stage.config.optimizer.weight_decay > 0


def test_layers_below_learn_more_slowly(backend, make_config):
    vit = "model.vit={side: 16, patch: 8, width: 16, depth: 2, heads: 2}"
    config = make_config("model.extractor=vit", vit, "optimizer.layer_decay=0.5")
    stage = ClaStage(config, backend)
    names = {id(p): name for name, p in stage.bare.named_parameters()}
    scales = {
        names[id(p)]: group["scale"]
        for group in stage.optimizer.param_groups
        for p in group["params"]
    }
    assert len(scales) == len(names)
    encoder = "extractor.encoder.vit."
    assert scales["head.weight"] == scales["output_moe.router.gate.weight"] == 1
    assert scales[encoder + "blocks.1.attn.qkv.weight"] == 0.5
    assert scales[encoder + "blocks.0.attn.qkv.weight"] == 0.25
    assert scales[encoder + "patch_embed.proj.weight"] == scales[encoder + "pos_embed"] == 0.125
    stage.train_batch(next(iter(stage.batches(0))), 0)
    rates = {group["lr"] / group["scale"] for group in stage.optimizer.param_groups}
    assert rates == {config.optimizer.learning_rate}
    with pytest.raises(ConfigError, match="'optimizer.layer_decay' is for 'model.extractor' vit"):
        make_config("optimizer.layer_decay=0.5")


@pytest.mark.parametrize(("off", "kept"), [("global", "local"), ("local", "global")])
def test_a_router_loss_can_be_measured_without_being_trained_on(off, kept, backend, make_config):
    stage = ClaStage(make_config(f"losses.use_{off}=false", "losses.global_local=0.5"), backend)
    terms = stage.train_batch(next(iter(stage.batches(0))), 0)
    expected = terms["cla"] + 0.001 * terms["imp"] + 0.5 * terms[kept]
    torch.testing.assert_close(terms["loss"], expected)
    assert terms[off] != 0


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_committed_configs_are_valid_and_use_a_cosine(path):
    config = load_config(CrossvalConfig, path)
    assert config.cla.schedule.kind == "cosine"
    assert config.cla.augment.flip == 0.5
