"""Stage `critic` with objective triplet, on a few rendered faces."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from norface.critics.base import CriticChoice, CriticsConfig, build_critics
from norface.data.corpora.fec import TRIPLETS
from norface.data.loader import DataConfig
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, ShardWriter
from norface.errors import ConfigError
from norface.images import encode_jpeg
from norface.models.expression_embedding import EmbeddingConfig
from norface.synthetic.corpus import draw_frame
from norface.synthetic.renderer import render
from norface.tracking import TrackingConfig, read_metrics
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.run import run_stage
from norface.training.stage import TrainerConfig
from norface.training.stages import load_stage
from norface.training.stages.critic_config import CriticAugmentConfig, CriticConfig
from norface.training.stages.critic_triplet import TripletStage, triplet_losses

UNITS = (1, 2, 4, 12)
TINY = EmbeddingConfig(length=4, channels=(4, 8, 8, 8), blocks=(0, 0, 0, 0))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Six persons, three pictures each."""
    folder = tmp_path_factory.mktemp("triplets")
    with ShardWriter(folder, side=64) as writer:
        for person in range(6):
            for number in range(3):
                parameters = draw_frame("critics", person, number).parameters
                writer.write(
                    FaceRecord(
                        corpus="synthetic",
                        subject=f"S{person}",
                        clip="C1",
                        frame=number,
                        image=encode_jpeg(render(parameters, 64).pixels),
                        intensity={u: parameters.intensity.get(u, 0.0) for u in UNITS},
                    )
                )
    return folder


def make_config(shards, root, **changes):
    return CriticConfig(
        **{
            "objective": "triplet",
            "data": DataConfig(shards=[shards]),
            "root": root,
            "held_out": 2,
            "embedding": TINY,
            "trainer": TrainerConfig(images=12, batch_per_rank=4, log_every_steps=1),
            "tracking": TrackingConfig(mlflow=False),
            **changes,
        }
    )


def test_loss_of_worked_examples():
    first, second, odd = [1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]
    # Squared distances: 0.16 + 0.64 = 0.8 between the two, 4 and 2.56 + 0.64 = 3.2 to the odd one.
    right = torch.tensor([[first, second, odd], [first, odd, second]])
    found = triplet_losses(right, torch.tensor([0.2, 0.2]))
    # Second row: near is 4, the odd one is at 0.8 of the first and at 3.2 of the second.
    torch.testing.assert_close(found, torch.tensor([0.0, 4 - 0.8 + 0.2 + 4 - 3.2 + 0.2]))
    found = triplet_losses(right[:1], torch.tensor([3.0]))
    torch.testing.assert_close(found, torch.tensor([0.8 - 3.2 + 3.0]))


def test_an_embedding_is_trained_exported_and_judges(shards, tmp_path):
    config = make_config(shards, tmp_path)
    folder = run_stage(load_stage("critic")[1], config)
    lines = read_metrics(folder)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(math.isfinite(line["triplet"]) for line in lines)
    assert 0 <= lines[-1]["validation/triplet_accuracy"] <= 1
    assert 0 <= lines[-1]["validation/person_auc"] <= 1
    choice = CriticChoice(source="embedding", weights=folder / "critic.safetensors")
    found = build_critics(CriticsConfig(expression=choice))["expression"](torch.zeros(2, 3, 64, 64))
    assert found.shape == (2, 4)


def test_training_goes_on_from_a_file_of_the_same_sizes_only(shards, tmp_path):
    folder = run_stage(TripletStage, make_config(shards, tmp_path))
    start = folder / "critic.safetensors"
    stage = TripletStage(make_config(shards, tmp_path, start=start), build_backend(BackendConfig()))
    again = make_config(shards, tmp_path, start=start, embedding=EmbeddingConfig(length=8))
    with pytest.raises(ConfigError, match="holds an embedding of other sizes"):
        TripletStage(again, build_backend(BackendConfig()))
    choice = CriticChoice(source="embedding", weights=start)
    critic = build_critics(CriticsConfig(expression=choice))["expression"]
    faces = torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(stage.network.eval()(faces), critic(faces), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_training_learns_which_expressions_are_alike(shards, tmp_path):
    trainer = TrainerConfig(images=1600, batch_per_rank=8, log_every_steps=20)
    config = make_config(shards, tmp_path, trainer=trainer, learning_rate=5e-3)
    lines = read_metrics(run_stage(TripletStage, config))
    assert lines[-1]["triplet"] < 0.7 * lines[0]["triplet"]


def test_a_batch_holds_whole_triplets_moved_each_in_its_own_way(shards, tmp_path):
    attacked = CriticAugmentConfig(attack=0.5)
    config = make_config(shards, tmp_path, augment=attacked)
    stage = TripletStage(config, build_backend(BackendConfig()))
    batch = next(stage.batches(0))
    assert batch["image"].shape == (4, 3, 3, 64, 64)
    assert len(batch["change"].flatten(0, 1).unique(dim=0)) == 12
    person = stage.train_faces.faces.person[batch["rows"].numpy()]
    assert (person[:, 1:] != person[:, :1]).all()
    flat = stage.arrange(batch)
    assert torch.equal(flat["image"][4], batch["image"][1, 1])
    shown = stage.train_batch(batch, 0)
    assert set(shown) == {"triplet", "loss", "lr"} and shown["loss"].isfinite()


def test_triplets_of_a_table_keep_its_test_part_or_the_last_ones(shards, tmp_path):
    index = ShardIndex.open(shards)
    keys = [index.key_of(row) for row in range(len(index))]
    rng = np.random.default_rng(0)
    lines = [
        (*rng.choice(keys, 3, replace=False), "ONE_CLASS_TRIPLET", [1 + n % 3] * 3, "train")
        for n in range(8)
    ]
    pd.DataFrame(lines, columns=TRIPLETS.names).to_parquet(tmp_path / "train.parquet")
    lines[:3] = [(*line[:5], "test") for line in lines[:3]]
    pd.DataFrame(lines, columns=TRIPLETS.names).to_parquet(tmp_path / "both.parquet")
    for name, counts in (("train", (6, 2)), ("both", (5, 3))):
        table = {"table": tmp_path / f"{name}.parquet"}
        config = make_config(shards, tmp_path, triplets=table)
        stage = TripletStage(config, build_backend(BackendConfig()))
        assert (len(stage.train_faces), len(stage.test_faces)) == counts
        assert set(stage.evaluate(0)) == {"triplet_accuracy"}
    assert float(next(stage.batches(0))["margin"][0]) == pytest.approx(0.1)


def test_settings_that_do_not_fit_are_refused(shards, tmp_path):
    data = DataConfig(shards=[shards], weights=[1])
    with pytest.raises(ConfigError, match="data.weights: objective=triplet"):
        run_stage(TripletStage, make_config(shards, tmp_path, data=data))
    with pytest.raises(ConfigError, match="held_out: 5 of 6 persons"):
        run_stage(TripletStage, make_config(shards, tmp_path / "few", held_out=5))
    sizes = EmbeddingConfig(backbone="resnet_eighteen")
    with pytest.raises(ConfigError, match="'resnet_eighteen' is no network of timm"):
        run_stage(TripletStage, make_config(shards, tmp_path / "odd", embedding=sizes))
