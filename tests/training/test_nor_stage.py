import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_nor import NETWORKS, SIDE, WEIGHTS, config_maker, write_faces

from norface.config import save_config
from norface.data.folds import make_folds
from norface.data.normalized import NormalizedSet, write_set
from norface.errors import ConfigError, WeightsError
from norface.images import write_png
from norface.models.encoder_files import save_encoder
from norface.models.normalizer import load_generator
from norface.models.vit import FaceEncoder, VitConfig
from norface.training.backends.base import build_backend
from norface.training.stages.nor import NorStage
from norface.training.stages.nor_shares import measure_shares


@pytest.fixture
def make_config(tmp_path):
    """A function that gives a config with small networks, faces and judges, and changes."""
    return config_maker(tmp_path)


def train(stage, first, last):
    """Metrics of each step from `first` up to `last`."""
    batches = stage.batches(first)
    return [stage.train_batch(next(batches), step) for step in range(first, last)]


def flatten(state, path=""):
    """Every leaf of nested dicts and lists by its path."""
    if isinstance(state, dict):
        state = state.items()
    elif isinstance(state, list | tuple):
        state = enumerate(state)
    else:
        return {path: state}
    return {k: v for key, inner in state for k, v in flatten(inner, f"{path}/{key}").items()}


def assert_equal(first, second):
    first, second = flatten(first), flatten(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, second[name], rtol=0, atol=0, msg=name)
        else:
            assert value == second[name], name


def test_step_gives_the_trained_terms_and_what_was_optimised(make_config, backend):
    (metrics,) = train(NorStage(make_config(), backend), 0, 1)
    losses = {"adv", "rec", "perc", "id", "lm", "exp"}
    assert set(metrics) == losses | {"loss", "lr", "discriminator"}
    expected = sum(WEIGHTS[term] * metrics[term] for term in losses)
    torch.testing.assert_close(metrics["loss"], expected)
    assert not any(value.requires_grad for value in metrics.values())


def test_log_steps_add_terms_of_weight_zero_and_gradient_shares(make_config, backend):
    _, metrics = train(NorStage(make_config(), backend), 0, 2)
    assert "eye" in metrics
    shares = {name: value for name, value in metrics.items() if name.startswith("grad_share/")}
    assert set(shares) == {f"grad_share/{n}" for n in ("adv", "rec", "perc", "id", "lm", "exp")}
    assert sum(shares.values()).item() == pytest.approx(1)


def test_gradient_shares_do_not_change_the_step(make_config, backend):
    stages = [
        NorStage(make_config(trainer={"images": 64, "batch_per_rank": 4, "log_every_steps": n},
                             losses={**WEIGHTS, "eye": 1}), backend)
        for n in (1, 100)
    ]  # fmt: skip
    for stage in stages:
        train(stage, 0, 2)
    for one, other in zip(*(stage.generator.parameters() for stage in stages), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_generator_step_leaves_discriminator_and_critics_untouched(make_config, backend):
    stage = NorStage(make_config(), backend)
    alone = NorStage(make_config(), backend)
    batch = next(stage.batches(0))
    target = alone.to_device(batch["target"])
    normalized = alone.generator(alone.to_device(batch["original"]), target)
    alone.train_discriminator(target, normalized.detach(), target, 1.0)
    stage.train_batch(batch, 0)
    assert_equal(stage.discriminator.state_dict(), alone.discriminator.state_dict())
    for critic in stage.judging.critics.values():
        assert all(p.grad is None and not p.requires_grad for p in critic.parameters())


def test_no_gradient_reaches_the_discriminator_from_the_adversarial_loss(make_config, backend):
    stage = NorStage(make_config(), backend)
    picture = torch.zeros(2, 3, SIDE, SIDE, requires_grad=True)
    stage.ask_discriminator(picture, picture).backward()
    assert picture.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in stage.discriminator.parameters())


def test_discriminator_waits_for_its_start_step(make_config, backend):
    stage = NorStage(make_config(adversarial_start_step=1), backend)
    before = copy.deepcopy(stage.discriminator.state_dict())
    (metrics,) = train(stage, 0, 1)
    assert "adv" not in metrics
    assert_equal(stage.discriminator.state_dict(), before)
    (metrics,) = train(stage, 1, 2)
    assert "adv" in metrics


def test_a_discriminator_of_pairs_learns_whose_face_it_is_from_another_face(make_config, backend):
    conditioned = {**NETWORKS["discriminator"], "condition": "pair"}
    stage = NorStage(make_config(discriminator=conditioned), backend)
    metrics = train(stage, 0, 2)
    assert all(np.isfinite(float(one["adv"])) for one in metrics)
    batch = next(stage.batches(0))
    assert {"companion", "target"} <= batch.keys()
    assert not torch.equal(batch["companion"], batch["target"])
    table = measure_shares(stage.config)
    assert np.isfinite(table["terms"]["adv"]["mse"]["loss"])


def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(make_config, backend):
    straight = NorStage(make_config(), backend)
    train(straight, 0, 5)
    first = NorStage(make_config(), backend)
    train(first, 0, 2)
    second = NorStage(make_config(seed=0), backend)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(second, 2, 5)
    assert_equal(second.state_dict(), straight.state_dict())


def test_self_pairs_can_be_learned_by_heart(make_config, backend):
    config = make_config(
        self_pair=1.0, losses={**dict.fromkeys(WEIGHTS), "rec": 1}, critics={},
        optimizer={"learning_rate": 5e-3, "betas": [0.9, 0.99]},
    )  # fmt: skip
    metrics = train(NorStage(config, backend), 0, 24)
    first, last = (torch.stack([m["rec"] for m in part]).mean() for part in
                   (metrics[:4], metrics[-4:]))  # fmt: skip
    assert last < 0.8 * first
    assert set(metrics[0]) == {"rec", "loss", "lr"}


def test_bf16_and_clipping_give_finite_losses(make_config):
    config = make_config(
        backend={"device": "cpu", "precision": "bf16"}, optimizer={"clip_norm": 0.1}
    )
    backend = build_backend(config.backend)
    stage = NorStage(config, backend)
    for metrics in train(stage, 0, 2):
        assert all(value.isfinite() for value in metrics.values())
        assert "grad_norm" in metrics
    squares = [p.grad.square().sum() for p in stage.generator.parameters() if p.grad is not None]
    assert torch.stack(squares).sum().sqrt() <= 0.1 * 1.001
    backend.close()


def test_trained_term_without_its_critic_is_refused(make_config, backend):
    with pytest.raises(ConfigError, match="losses.perc: found 1.0, but critics.perceptual"):
        NorStage(make_config(critics={}), backend)
    weights = {**dict.fromkeys(WEIGHTS), "rec": 1, "id": 0}
    _, metrics = train(NorStage(make_config(critics={}, losses=weights), backend), 0, 2)
    assert "id" not in metrics


def test_export_is_the_averaged_generator_and_names_everyone_it_saw(make_config, backend, tmp_path):
    stage = NorStage(make_config(), backend)
    train(stage, 0, 1)
    stage.export(tmp_path)
    model, card = load_generator(tmp_path / "generator.safetensors")
    assert_equal(model.state_dict(), stage.average.model.state_dict())
    assert card.persons == [("synthetic", f"S{number}") for number in range(3)]

    data = {"shards": [str(tmp_path / "faces")], "subjects": ["synthetic/S1"]}
    changes = {"data": data, "generator": str(tmp_path / "generator.safetensors")}
    tuned = NorStage(make_config(**changes), backend)
    assert_equal(tuned.generator.state_dict(), model.state_dict())
    assert len(tuned.persons) == 3
    with pytest.raises(ConfigError, match="other sizes than `normalizer`"):
        wider = copy.deepcopy(NETWORKS["normalizer"])
        wider["encoder"]["depth"] = 2
        NorStage(make_config(**changes, normalizer=wider), backend)


def test_fine_tuning_goes_on_with_the_discriminator_that_the_generator_met(
    make_config, backend, tmp_path
):
    stage = NorStage(make_config(), backend)
    train(stage, 0, 2)
    stage.export(tmp_path)
    changes = {"generator": str(tmp_path / "generator.safetensors"), "seed": 5}
    tuned = NorStage(make_config(**changes), backend)
    assert_equal(tuned.discriminator.state_dict(), stage.discriminator.state_dict())
    assert f"discriminator: goes on from {tmp_path}/discriminator.safetensors" in tuned.notes
    kept = tmp_path / "kept.safetensors"
    (tmp_path / "discriminator.safetensors").rename(kept)
    fresh = NorStage(make_config(**changes), backend)
    assert any(note.startswith("discriminator: fresh weights") for note in fresh.notes)
    weight = "head.bias"
    assert not torch.equal(
        fresh.discriminator.state_dict()[weight], stage.discriminator.state_dict()[weight]
    )
    named = NorStage(make_config(**changes, discriminator_weights=str(kept)), backend)
    assert_equal(named.discriminator.state_dict(), stage.discriminator.state_dict())
    with pytest.raises(ConfigError, match="kept.safetensors has other sizes than `discriminator`"):
        NorStage(
            make_config(discriminator={"channels": [8]}, discriminator_weights=str(kept)), backend
        )
    generator = tmp_path / "generator.safetensors"
    with pytest.raises(WeightsError, match="generator.safetensors: not a discriminator of"):
        NorStage(make_config(discriminator_weights=str(generator)), backend)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_encoder_starts_from_weights_that_were_trained_before(
    make_config, backend, tmp_path, suffix
):
    sizes = VitConfig(
        **NETWORKS["normalizer"]["encoder"], mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
    )
    before, path = FaceEncoder(sizes), tmp_path / f"encoder.{suffix}"
    if suffix == "pth":
        torch.save({"model": before.vit.state_dict()}, path)
    else:
        save_encoder(before, path, source="x", persons=[("celeba", "7")], images=0)
    normalizer = copy.deepcopy(NETWORKS["normalizer"])
    with pytest.raises(ConfigError, match="normalizer.encoder.mean"):
        NorStage(make_config(encoder_weights=path), backend)
    normalizer["encoder"] |= {"mean": sizes.mean, "std": sizes.std}
    stage = NorStage(make_config(encoder_weights=path, normalizer=normalizer), backend)
    faces = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
    for encoder in (stage.generator.encoder, stage.average.model.encoder):
        torch.testing.assert_close(encoder(faces), before(faces))
    assert "matched     18 tensors" in stage.notes[0]
    # Whom the encoder saw, the generator saw: sets made with it are kept from their folds.
    assert (("celeba", "7") in stage.persons) == (suffix == "safetensors")
    with pytest.raises(ConfigError, match="no transformer comes with the package"):
        NorStage(make_config(encoder_weights="packaged", normalizer=normalizer), backend)


def test_recomputing_in_the_backward_pass_changes_no_bit(make_config, backend):
    stages = [NorStage(make_config(gradient_checkpointing=on), backend) for on in (False, True)]
    for stage in stages:
        train(stage, 0, 2)
    assert stages[1].generator.decoder.gradient_checkpointing
    assert_equal(stages[0].state_dict(), stages[1].state_dict())


def test_cost_of_every_network_is_told_at_the_start(make_config, backend):
    (note,) = NorStage(make_config(), backend).notes
    lines = note.splitlines()
    names = ["E_s", "EMM", "D_f", "F_nor", "D_res"]
    assert [line.split()[0] for line in lines] == ["network", *names]


def test_a_fold_trains_on_its_train_subjects_only(make_config, backend, tmp_path):
    shards = write_faces(tmp_path / "many", subjects=9)
    config = make_config(data={"shards": [str(shards)]}, fold={"fold": "test=part2"})
    stage = NorStage(config, backend)
    index = config.data.open()
    fold = next(one for one in make_folds(index.persons, validation_share=0.15)[1:])
    assert fold.name == "test=part2" and fold.validation
    assert stage.persons == set(fold.train)
    step = next(iter(stage.batches(0)))
    assert {key.rsplit("_", 2)[0] for key in step["key"]} <= {"_".join(p) for p in fold.train}
    with pytest.raises(ConfigError, match="found 'part2'; there are: test=part1, test=part2"):
        NorStage(make_config(data={"shards": [str(shards)]}, fold={"fold": "part2"}), backend)


def test_originals_can_be_streamed(make_config, backend, tmp_path):
    stage = NorStage(
        make_config(data={"shards": [str(tmp_path / "faces")], "reader": "stream"}), backend
    )
    metrics = train(stage, 0, 4)
    assert all(np.isfinite(one["loss"].item()) for one in metrics)
    keys = {
        key for _, batch in zip(range(6), stage.batches(0), strict=False) for key in batch["key"]
    }
    assert keys <= set(stage.index.table["key"]) and len(keys) > 8


def test_folders_are_read_by_their_weights(make_config, backend, tmp_path):
    few = write_faces(tmp_path / "few", subjects=1, clip="few")
    data = {"shards": [str(few), str(tmp_path / "faces")], "weights": [1, 1]}
    stage = NorStage(make_config(data=data, self_pair=0.0), backend)
    # An epoch is 16 faces: 4 batches, half of them from the 4 of the first folder.
    batches = [batch for _, batch in zip(range(8), stage.batches(0), strict=False)]
    clips = [key.split("_")[2] for batch in batches for key in batch["key"]]
    assert clips[:16].count("few") == clips[16:].count("few") == 8
    targets = [key.split("_")[2] for batch in batches for key in batch["target_key"]]
    assert targets.count("few") > 10


def test_grid_shows_original_target_and_normalized(make_config, backend):
    stage = NorStage(make_config(samples={"rows": 3}), backend)
    assert stage.sample_grid().shape == (3 * (SIDE + 2) + 2, 3 * (SIDE + 2) + 2, 3)
    assert np.array_equal(stage.sample_grid(), stage.sample_grid())


def test_grid_with_a_truth_set_shows_its_target_and_the_true_faces(make_config, backend, tmp_path):
    truth = write_faces(tmp_path / "truth")
    card = NormalizedSet(target="x", generator="truth", trained_on=[], source="0", side=SIDE)
    write_set(truth, card)
    write_png(truth / "target.png", np.full((SIDE, SIDE, 3), 7, np.uint8))
    stage = NorStage(make_config(samples={"rows": 2, "truth": str(truth)}), backend)
    originals, targets, truths = stage.read_samples()
    assert (targets[0] == 7).all()
    # The truth set of this test holds the originals themselves.
    assert np.array_equal(originals, truths)
    assert stage.sample_grid().shape[1] == 4 * (SIDE + 2) + 2


@pytest.mark.slow
def test_two_ranks_train_what_one_rank_trains(make_config, tmp_path):
    # Self pairs fall unevenly on the two ranks; only the global count makes these runs equal.
    changes = {"tracking": {"mlflow": False}, "root": str(tmp_path), "backend": {"device": "cpu"}}
    metrics = []
    for ranks in (1, 2):
        trainer = {"images": 40, "batch_per_rank": 8 // ranks, "log_every_steps": 1}
        config = make_config(name=f"of-{ranks}", trainer=trainer, **changes)
        save_config(config, tmp_path / "config.yaml")
        words = ["train", "nor", "-c", str(tmp_path / "config.yaml")]
        command = [sys.executable, "-m", "launchers.local", "--ranks", str(ranks), "--", *words]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        lines = (tmp_path / config.name / "metrics.jsonl").read_text().splitlines()
        metrics.append([json.loads(line) for line in lines])
    for one, two in zip(*metrics, strict=True):
        for term in ("loss", "rec", "adv", "id", "exp"):
            assert two[term] == pytest.approx(one[term], rel=1e-4, abs=1e-6)
    models = [load_generator(tmp_path / f"of-{n}" / "generator.safetensors")[0] for n in (1, 2)]
    for one, two in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=2e-4)
