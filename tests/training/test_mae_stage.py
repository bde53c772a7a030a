"""Stage `mae`: one run whatever the ranks and the interruptions, and what it leaves."""

import json
import shutil

import numpy as np
import pytest
import torch
from marked_faces import SIDE, write_corpus
from ranks import finish
from runs import assert_same_run, final_weights, metric_lines

from norface.config import load_config
from norface.data.folds import draw_held_out
from norface.data.shards import ShardIndex
from norface.errors import CheckpointError, ConfigError, WeightsError
from norface.models.encoder_files import read_checkpoint
from norface.models.vit import FaceEncoder
from norface.models.weights import load_encoder_weights
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.run import run_stage
from norface.training.stages.mae import MaeConfig, MaeStage, draw_order


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("mae") / "shards", subjects=6, frames=8)


def make_config(shards, root, *changes):
    basic = [
        f"root={root}",
        "name=run",
        f"data.shards=[{shards}]",
        f"model.encoder={{side: {SIDE}, patch: 4, width: 16, depth: 2, heads: 2}}",
        "model.decoder={width: 8, depth: 1, heads: 2}",
        "optimizer={learning_rate: 0.01, scale_by_batch: false, schedule: {kind: cosine}}",
        "held_out=2",
        "trainer={images: 48, batch_per_rank: 8, log_every_steps: 1, save_every_steps: 2}",
        "backend.device=cpu",
        "tracking.mlflow=false",
    ]
    return load_config(MaeConfig, None, [*basic, *changes])


def test_run_leaves_losses_a_grid_and_an_encoder_with_its_card(shards, tmp_path):
    config = make_config(shards, tmp_path, "optimizer.clip_norm=1.0")
    folder = run_stage(MaeStage, config)
    lines = metric_lines(config)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all({"loss", "lr", "grad_norm"} <= set(line) for line in lines)
    assert 0 < lines[-1]["validation/loss"] < 10
    assert list((folder / "samples").glob("*.png"))
    encoder = FaceEncoder(config.model.encoder)
    report = load_encoder_weights(encoder, folder / "encoder.safetensors")
    assert report.missing == report.unexpected == report.resampled == []
    persons = [("synthetic", f"S{number:04d}") for number in range(6)]
    held_out = draw_held_out(persons, 2, seed=0)
    assert report.card.persons == [person for person in persons if person not in held_out]
    assert report.card.source == "norface train mae, run, on synthetic"
    assert report.card.images == 48
    assert (tmp_path / "run" / "encoder.safetensors").is_file()


def test_a_resumed_run_ends_in_the_bits_of_one_that_was_not_stopped(shards, tmp_path):
    whole = make_config(shards, tmp_path / "whole")
    run_stage(MaeStage, whole)
    stopped = make_config(shards, tmp_path / "stopped")
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    folder = tmp_path / "stopped" / "run"
    # As after a kill in step 5: the checkpoint of step 4 is the newest, nothing is exported.
    for path in (folder / "checkpoints").iterdir():
        if path.name > "step-00000004":
            shutil.rmtree(path)
    (folder / "encoder.safetensors").unlink()
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | {"status": "failed"}))
    run_stage(MaeStage, stopped)
    assert_same_run(stopped, whole)


def test_a_run_does_not_go_on_with_shards_that_were_written_again(tmp_path):
    other = write_corpus(tmp_path / "shards", subjects=6, frames=8)
    run_stage(MaeStage, make_config(other, tmp_path, "trainer.images=16"))
    shutil.rmtree(other)
    write_corpus(other, subjects=6, frames=8, noise=10)
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(CheckpointError, match=f"other data: the index of {other} was") as caught:
        run_stage(MaeStage, make_config(other, tmp_path))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    # What they were is gone on with.
    shutil.rmtree(other)
    write_corpus(other, subjects=6, frames=8)
    assert run_stage(MaeStage, make_config(other, tmp_path, "trainer.images=24"))


def test_two_ranks_train_what_one_rank_trains(shards, tmp_path):
    one = make_config(shards, tmp_path / "one")
    two = make_config(shards, tmp_path / "two", "trainer.batch_per_rank=4")
    finish(one, 1, stage=MaeStage)
    finish(two, 2, stage=MaeStage)
    for mine, other in zip(metric_lines(one), metric_lines(two), strict=True):
        for name in ("loss", "validation/loss"):
            assert (name in mine) == (name in other)
            assert mine.get(name, 0) == pytest.approx(other.get(name, 0), rel=1e-4)
    expected, found = final_weights(one), final_weights(two)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=2e-4)


def test_masks_are_keyed_by_the_sample_not_by_its_rank(shards, tmp_path):
    def orders(ranks):
        config = make_config(shards, tmp_path, f"trainer.batch_per_rank={8 // ranks}")
        found = {}
        for rank in range(ranks):
            backend = build_backend(BackendConfig(device="cpu"))
            stage = MaeStage(config, backend)
            backend.rank, backend.world_size = rank, ranks
            for step, batch in zip(range(4), stage.batches(0), strict=False):
                for key, order, image in zip(
                    *(batch[n] for n in ("key", "order", "image")), strict=True
                ):
                    found[step, key] = order.tolist(), image
            backend.world_size = 1
            backend.close()
        return found

    one, two = orders(1), orders(2)
    assert one.keys() == two.keys() and len(one) == 32
    for place, (order, image) in one.items():
        assert order == two[place][0] and torch.equal(image, two[place][1])
    # Every order is a permutation, and no two are alike.
    assert all(sorted(order) == list(range(16)) for order, _ in one.values())
    assert len({tuple(order) for order, _ in one.values()}) == 32
    again = draw_order(seed=1, epoch=0, position=0, patches=16)
    assert not torch.equal(again, draw_order(seed=0, epoch=0, position=0, patches=16))


def test_loss_falls_and_frozen_positions_stay(shards, tmp_path):
    config = make_config(shards, tmp_path, "trainer.images=960")
    backend = build_backend(BackendConfig(device="cpu"))
    stage = MaeStage(config, backend)
    places = stage.bare.encoder.vit.pos_embed.clone()
    batches = stage.batches(0)
    losses = [stage.train_batch(next(batches), step)["loss"].item() for step in range(60)]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:4])
    assert torch.equal(stage.bare.encoder.vit.pos_embed, places)
    decayed = {id(p) for p in stage.optimizer.param_groups[0]["params"]}
    assert id(stage.bare.mask_token) not in decayed
    assert id(stage.bare.encoder.vit.patch_embed.proj.weight) in decayed
    backend.close()


def test_rate_grows_with_the_global_batch_where_it_is_asked_to(shards, tmp_path):
    change = "optimizer={learning_rate: 0.01, schedule: {kind: constant}}"
    backend = build_backend(BackendConfig(device="cpu"))
    stage = MaeStage(make_config(shards, tmp_path, change), backend)
    found = stage.train_batch(next(stage.batches(0)), 0)["lr"].item()
    assert found == pytest.approx(0.01 * 8 / 256)
    assert stage.optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    backend.close()


def test_grid_has_three_columns_and_the_same_faces_every_time(shards, tmp_path):
    backend = build_backend(BackendConfig(device="cpu"))
    stage = MaeStage(make_config(shards, tmp_path, "sample_rows=3"), backend)
    grid = stage.sample_grid()
    assert grid.shape == (3 * (SIDE + 2) + 2, 3 * (SIDE + 2) + 2, 3)
    assert np.array_equal(grid, stage.sample_grid())
    # Three quarters of the second column are grey (zero on the scale -1..1).
    masked = grid[2 : 2 + SIDE, 2 + SIDE + 2 : 2 + 2 * SIDE + 2]
    grey = (np.abs(masked.astype(int) - 127.5) < 1).all(-1)
    assert grey.reshape(4, 4, 4, 4).all((1, 3)).sum() == 12
    held_out = draw_held_out(ShardIndex.open(shards).persons, 2, seed=0)
    assert stage.shown_faces.index.persons == held_out
    assert not set(held_out) & set(stage.index.persons)
    backend.close()


def test_pre_training_can_go_on_from_an_encoder(shards, tmp_path):
    first = run_stage(MaeStage, make_config(shards, tmp_path, "name=first"))
    path = first / "encoder.safetensors"
    backend = build_backend(BackendConfig(device="cpu"))
    other = write_corpus(tmp_path / "one", subjects=3, frames=4)
    config = make_config(other, tmp_path, f"encoder_weights={path}", "held_out=1")
    stage = MaeStage(config, backend)
    tensors, _, _ = read_checkpoint(path)
    for name, tensor in stage.bare.encoder.vit.state_dict().items():
        assert torch.equal(tensor, tensors[name])
    (note,) = stage.notes
    assert "matched     30 tensors" in note
    # Whom the first run saw, this encoder saw.
    assert ("synthetic", "S0003") in stage.persons
    deeper = "model.encoder.depth=3"
    with pytest.raises(WeightsError, match="has depth 2, but model.encoder has depth 3"):
        MaeStage(make_config(shards, tmp_path, f"encoder_weights={path}", deeper), backend)
    backend.close()


def test_what_the_stage_cannot_do_is_refused_in_one_line(shards, tmp_path):
    backend = build_backend(BackendConfig(device="cpu"))
    with pytest.raises(ConfigError, match="held_out: 6 of 6 persons leaves none"):
        MaeStage(make_config(shards, tmp_path, "held_out=6"), backend)
    with pytest.raises(ConfigError, match="stage mae reads by index"):
        make_config(shards, tmp_path, "data.reader=stream")
    backend.close()
