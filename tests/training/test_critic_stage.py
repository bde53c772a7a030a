"""Stage `critic` on a few rendered faces."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from norface.critics.base import CriticChoice, CriticsConfig, build_critics
from norface.data.labelled import LabelledFaces, augment_batch
from norface.data.loader import DataConfig, Draw
from norface.data.records import FaceRecord
from norface.data.shards import ShardIndex, ShardWriter
from norface.errors import ConfigError
from norface.images import encode_jpeg
from norface.models.face_networks import (
    UNITS,
    FaceNetworkConfig,
    build_face_network,
    load_face_network,
)
from norface.synthetic.corpus import draw_frame
from norface.synthetic.renderer import render
from norface.synthetic.version import RENDERER_VERSION
from norface.tracking import TrackingConfig, read_metrics
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.run import run_stage
from norface.training.stage import TrainerConfig
from norface.training.stages.critic import (
    CosineMarginHead,
    CriticStage,
    hold_out,
    masked_mse,
    measure_identity,
)
from norface.training.stages.critic_config import CriticAugmentConfig, CriticConfig


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Six persons, four pictures each; the units of the last picture are unlabelled."""
    folder = tmp_path_factory.mktemp("critics")
    with ShardWriter(folder, side=64) as writer:
        for person in range(6):
            for number in range(4):
                parameters = draw_frame("critics", person, number).parameters
                face = render(parameters, 64)
                known = {unit: parameters.intensity.get(unit, 0.0) for unit in UNITS}
                writer.write(
                    FaceRecord(
                        corpus="synthetic",
                        subject=f"S{person}",
                        clip="C1",
                        frame=number,
                        image=encode_jpeg(face.pixels),
                        landmarks=face.landmarks.tolist(),
                        pose=face.pose,
                        intensity={} if number == 3 else known,
                    )  # fmt: skip
                )
    return folder


def make_config(shards, root, **changes):
    return CriticConfig(
        **{
            "data": DataConfig(shards=[shards]),
            "root": root,
            "held_out": 2,
            "network": FaceNetworkConfig(channels=(4, 8, 8, 8), blocks=(0, 0, 0, 0), hidden=16),
            "trainer": TrainerConfig(images=32, batch_per_rank=8, log_every_steps=1),
            "tracking": TrackingConfig(mlflow=False),
            **changes,
        }
    )


@pytest.mark.parametrize("kind", ["reader", "identity"])
def test_trained_critic_is_exported_and_judges(shards, tmp_path, kind):
    network = FaceNetworkConfig(kind=kind, channels=(4, 8, 8, 8), blocks=(0, 0, 0, 0))
    folder = run_stage(CriticStage, make_config(shards, tmp_path, network=network))
    lines = read_metrics(folder)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(math.isfinite(line["loss"]) for line in lines)
    choice = CriticChoice(weights=folder / "critic.safetensors")
    wanted = "identity" if kind == "identity" else "expression"
    critic = build_critics(CriticsConfig(**{wanted: choice}))[wanted]
    found = critic(torch.zeros(2, 3, 64, 64))
    assert found.shape == (2, 64 if kind == "identity" else 17)
    # Half precision in the file: the shipped critics must stay small.
    tensors = load_file(choice.weights)
    assert all(t.dtype == torch.float16 for t in tensors.values() if t.is_floating_point())
    with safe_open(str(choice.weights), framework="pt") as file:
        assert file.metadata()["renderer"] == str(RENDERER_VERSION)


def test_a_critic_of_an_older_renderer_is_trained_on_and_then_knows_the_new_one(shards, tmp_path):
    network = FaceNetworkConfig(kind="reader", channels=(4, 8), blocks=(0, 0))
    settings = {"network": json.dumps(network.model_dump(mode="json")), "renderer": "1"}
    before = build_face_network(network).state_dict()
    save_file(before, tmp_path / "old.safetensors", settings)
    config = make_config(
        shards, tmp_path, network=network, start=tmp_path / "old.safetensors", learning_rate=1e-9
    )
    path = run_stage(CriticStage, config) / "critic.safetensors"
    load_face_network(path)
    weights = load_file(path)
    assert all(
        torch.allclose(weights[name].float(), tensor, atol=1e-3)
        for name, tensor in before.items()
        if name.endswith("weight")
    )


def test_too_few_persons_for_the_held_out_ones_is_one_line(shards, tmp_path):
    with pytest.raises(ConfigError, match="held_out: 5 of 6 persons"):
        run_stage(CriticStage, make_config(shards, tmp_path, held_out=5))


def test_persons_of_every_corpus_are_held_out_the_same_for_every_seed(tmp_path):
    picture = encode_jpeg(np.zeros((64, 64, 3), np.uint8))
    with ShardWriter(tmp_path, side=64) as writer:
        for corpus in ("bp4d", "disfa", "synthetic"):
            for number in range(20):
                writer.write(FaceRecord(corpus, f"S{number}", "C1", 0, picture))
    index = ShardIndex.open(tmp_path)
    trained, kept = hold_out(index, 15)
    assert sorted(trained + kept) == sorted(index.persons) and len(kept) == 15
    assert {corpus for corpus, _ in kept} == {"bp4d", "disfa", "synthetic"}
    backend = build_backend(BackendConfig(device="cpu"))
    network = FaceNetworkConfig(kind="identity", channels=(4, 8, 8, 8), blocks=(0, 0, 0, 0))
    for seed in (0, 1):
        config = make_config(tmp_path, tmp_path, held_out=15, seed=seed, network=network)
        assert CriticStage(config, backend).test_faces.index.persons == kept
    backend.close()


def test_unlabelled_units_are_missing_and_do_not_count(shards):
    index = ShardIndex.open(shards)
    faces = LabelledFaces(index)
    samples = [faces[Draw(row, 0, row)] for row in range(4)]
    assert sum(bool(sample["intensity"].isnan().all()) for sample in samples) == 1
    found = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    truth = torch.tensor([[0.0, math.nan], [math.nan, 2.0]])
    assert masked_mse(found, truth).item() == pytest.approx((1 + 4) / 2)
    assert masked_mse(found, torch.full((2, 2), math.nan)).item() == 0


def write_labelled(folder, **labels):
    """Six persons of a corpus without landmarks and pose, four pictures each."""
    with ShardWriter(folder, side=64) as writer:
        for number in range(24):
            pixels = np.full((64, 64, 3), 10 * number, np.uint8)
            known = {name: {unit: number % 2 for unit in units} for name, units in labels.items()}
            writer.write(
                FaceRecord("disfa", f"SN{number // 4}", "C1", number, encode_jpeg(pixels), **known)
            )
    return folder


def test_a_corpus_with_some_units_and_no_landmarks_is_measured_by_what_it_has(tmp_path, recwarn):
    shards = write_labelled(tmp_path / "shards", intensity=(1, 4))
    folder = run_stage(CriticStage, make_config(shards, tmp_path))
    measured = {k: v for k, v in read_metrics(folder)[-1].items() if k.startswith("validation/")}
    assert set(measured) == {"validation/r", "validation/r/AU1", "validation/r/AU4"}
    assert all(-1 <= value <= 1 for value in measured.values())
    assert not [one for one in recwarn if "Degrees of freedom" in str(one.message)]
    choice = CriticChoice(weights=folder / "critic.safetensors")
    critic = build_critics(CriticsConfig(eyebrow=choice))["eyebrow"]
    assert critic(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_a_reader_with_nothing_to_learn_from_is_refused_in_one_line(tmp_path):
    shards = write_labelled(tmp_path / "shards", presence=(1, 4))
    with pytest.raises(ConfigError, match="no intensities .*disfa_SN0_C1_0 no landmarks") as caught:
        run_stage(CriticStage, make_config(shards, tmp_path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_augmentation_moves_picture_and_landmarks_alike():
    """A bright dot stands where its landmark went."""
    image = torch.full((1, 3, 64, 64), -1.0)
    image[0, :, 40, 24] = 1.0
    dot = (torch.tensor([24.0, 40.0]) + 0.5) / 64
    batch = {
        "image": image,
        "landmarks": dot.expand(1, 68, 2),
        "change": torch.tensor([[4 / 64, -2 / 64, 1.05, 0.0, 1.0, 0.0, 0.0]]),
        "noise_seed": [0],
    }
    moved, landmarks = augment_batch(batch)
    weight = moved[0, 0] + 1
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    centre = torch.stack([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    torch.testing.assert_close((centre + 0.5) / 64, landmarks[0, 0], atol=0.004, rtol=0)


def test_augmentation_is_keyed_by_the_sample(shards):
    faces = LabelledFaces(ShardIndex.open(shards), changes=CriticAugmentConfig())
    first, again, other = (faces[Draw(1, epoch, 5)] for epoch in (0, 0, 1))
    assert torch.equal(first["change"], again["change"])
    assert first["noise_seed"] == again["noise_seed"]
    assert not torch.equal(first["change"], other["change"])


def test_identity_measure_of_a_worked_example():
    embedding = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]])
    found = measure_identity(embedding, np.array([0, 0, 1, 1]))
    # Same: 0.8, 0.8; different: 0, 0.6, 0.6, 0.96. Of 8 pairs 6 are in the right order.
    assert found["auc"] == pytest.approx(6 / 8)
    assert found["cosine_same"] == pytest.approx(0.8)


def test_attack_steps_up_the_loss_by_its_share_of_the_length(shards, tmp_path):
    attacked = CriticAugmentConfig(attack=0.5)
    stage = CriticStage(
        make_config(shards, tmp_path, augment=attacked), build_backend(BackendConfig())
    )
    batch = torch.utils.data.default_collate([stage.train_faces[Draw(r, 0, r)] for r in range(8)])
    image, batch["landmarks"] = augment_batch(batch)
    stage.model.eval()
    harder = stage.attack(image.clone(), batch)
    far = (harder - image).flatten(1).norm(dim=1)
    torch.testing.assert_close(far, 0.5 * batch["change"][:, 6])
    loss = [sum(stage.model(seen, batch).values()).item() for seen in (image, harder)]
    assert loss[1] > loss[0]


def test_cosine_margin_of_a_worked_example():
    head = CosineMarginHead(2, 2, scale=10.0, margin=0.2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    loss = head(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    # Cosines are 1 and 0: logits 10 * (1 - 0.2) = 8 and 0.
    assert math.isclose(loss.item(), math.log(1 + math.exp(-8)), rel_tol=1e-4)


def test_folders_are_read_by_their_weights(shards, tmp_path):
    few = tmp_path / "few"
    with ShardWriter(few, side=64) as writer:
        index = ShardIndex.open(shards)
        trained = index.select(subjects=hold_out(index, 2)[0])
        writer.write(dataclasses.replace(trained.read_record(0), clip="few"))
    data = DataConfig(shards=[few, shards], weights=[1, 1])
    stage = CriticStage(make_config(shards, tmp_path, data=data), build_backend(BackendConfig()))
    # One epoch: half of the 17 faces that are trained on are the one of the first folder.
    batches = [batch for _, batch in zip(range(2), stage.batches(0), strict=False)]
    assert 6 <= sum("_few_" in key for batch in batches for key in batch["key"]) <= 9
