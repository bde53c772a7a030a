"""The stages under ZeRO: nor with two engines, and mae, cla and critic with one."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from marked_faces import SIDE, stage_options, write_corpus, write_normalized
from ranks import finish, said, start_ranks, wait_for
from safetensors.torch import load_file
from test_nor_stage import make_config as nor_config  # noqa: F401
from tiny_stages import load_tiny, write_material

from norface.config import build_config, load_config
from norface.errors import ConfigError
from norface.models.discriminator import Discriminator, DiscriminatorConfig
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.backends.refusals import refuse_batch_norm, refuse_in_bf16
from norface.training.stages.cla import ClaConfig, ClaStage
from norface.training.stages.critic import CriticConfig, CriticStage
from norface.training.stages.mae import MaeConfig, MaeStage
from norface.training.stages.nor import NorStage

os.environ.setdefault("DS_ACCELERATOR", "cpu")
RANKS = 2
TERMS = ("loss", "adv", "rec", "perc", "id", "lm", "exp", "discriminator", "grad_norm")


@pytest.fixture(scope="module")
def split_all(tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "zero.json"
    path.write_text('{"zero_optimization": {"stage3_param_persistence_threshold": 0}}')
    return path


def metric_lines(config):
    lines = (config.root / config.name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_nor_under_every_stage_of_zero_loses_what_it_loses_under_accelerate(
    nor_config,  # noqa: F811
    tmp_path,
    split_all,
):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install deepspeed")
    found = {}
    for stage in (None, 0, 1, 2, 3):
        backend = {"device": "cpu"}
        if stage is not None:
            backend |= {"kind": "deepspeed", "zero_stage": stage, "deepspeed": str(split_all)}
        config = nor_config(
            name=f"of-{stage}",
            root=str(tmp_path),
            tracking={"mlflow": False},
            backend=backend,
            # The terms' gradient shares are measured at every step, on the graphs of both engines.
            trainer={"images": 96, "batch_per_rank": 4, "log_every_steps": 1},
            # At 1e-3 a ReLU of a judge was seen to fall to the other side of 0 at step 14 under one
            # engine only, and losses to part from 9e-7 to 3e-2 in six steps.
            optimizer={"learning_rate": 3e-4, "clip_norm": 1.0},
        )
        finish(config, RANKS, stage=NorStage)
        weights = load_file(tmp_path / config.name / "generator.safetensors")
        found[stage] = metric_lines(config), weights
    lines, weights = found.pop(None)
    assert len(lines) == 12 and {"grad_share/adv", "grad_norm"} <= set(lines[0])
    for stage, (other_lines, other_weights) in found.items():
        differences = [
            max(abs(other[term] - line[term]) / max(abs(line[term]), 1e-3) for term in TERMS)
            for line, other in zip(lines, other_lines, strict=True)
        ]
        print(f"ZeRO {stage}: losses differ by {max(differences):.1e}")
        # Later a ReLU of a judge may round to the other side of 0, and the gradient jumps: see
        # docs/backends.md.
        assert max(differences[:10]) < 1e-5, stage
        assert max(differences) < 1e-3, stage
        for name, tensor in weights.items():
            torch.testing.assert_close(other_weights[name], tensor, rtol=1e-3, atol=2e-4)


def mae_options(folder):
    return [
        f"data.shards=[{folder / 'shards'}]",
        f"model.encoder={{side: {SIDE}, patch: 4, width: 16, depth: 2, heads: 2}}",
        "model.decoder={width: 8, depth: 1, heads: 2}",
        "optimizer={learning_rate: 0.01, scale_by_batch: false, clip_norm: 0.5}",
        "held_out=2",
        "trainer={images: 64, batch_per_rank: 4, log_every_steps: 1, save_every_steps: 3}",
    ]


def cla_options(folder):
    return [*stage_options(folder / "shards", folder), "trainer.log_every_steps=1", "epochs=1"]


def critic_options(folder):
    return [
        f"data.shards=[{folder / 'shards'}]",
        "network={kind: identity, side: 32, channels: [4, 8], blocks: [1, 1], embedding: 8}",
        "held_out=2",
        "augment.attack=0.1",
        "trainer={images: 64, batch_per_rank: 4, log_every_steps: 1}",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
@pytest.mark.parametrize(
    ("config_class", "stage_class", "options"),
    [
        (MaeConfig, MaeStage, mae_options),
        (ClaConfig, ClaStage, cla_options),
        (CriticConfig, CriticStage, critic_options),
    ],
)
def test_stages_of_one_network_train_measure_draw_and_export(
    tmp_path, split_all, config_class, stage_class, options, stage
):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install deepspeed")
    shards = write_corpus(tmp_path / "shards")
    write_normalized(shards, tmp_path / "normalized")
    basic = [*options(tmp_path), "backend.device=cpu", "tracking.mlflow=false"]
    zero = ["backend.kind=deepspeed", f"backend.zero_stage={stage}"]
    zero.append(f"backend.deepspeed={split_all}")
    results = []
    for name, more in (("plain", []), ("zero", zero)):
        words = [*basic, f"root={tmp_path / name}", "name=run", *more]
        config = load_config(config_class, None, words)
        finish(config, RANKS, stage=stage_class)
        (file,) = (tmp_path / name / "run").glob("*.safetensors")
        results.append((metric_lines(config), load_file(file)))
        assert "Traceback" not in said(config)
    (lines, weights), (other_lines, other_weights) = results
    assert len(lines) == len(other_lines) >= 2
    for line, other in zip(lines, other_lines, strict=True):
        for key in ("loss", "grad_norm", "validation/loss", "validation/auc", "validation/f1"):
            assert (key in line) == (key in other)
            assert other.get(key, 0) == pytest.approx(line.get(key, 0), rel=1e-3, abs=1e-6), key
    for name, tensor in weights.items():
        torch.testing.assert_close(
            other_weights[name].float(), tensor.float(), rtol=1e-3, atol=1e-3, msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "zero_stage"), [("mae", 2), ("mae", 3), ("nor", 2), ("cla", 2), ("cla", 3)]
)
def test_stages_train_with_weights_in_bf16(tmp_path, split_all, kind, zero_stage):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install deepspeed")
    material = write_material(tmp_path / "material")
    words = ["backend.kind=deepspeed", f"backend.zero_stage={zero_stage}",
             "backend.precision=bf16", "backend.weights=bf16",
             f"backend.deepspeed={split_all}"]  # fmt: skip
    words += ["discriminator.spectral_norm=false"] if kind == "nor" else []
    stage, config = load_tiny(kind, material, tmp_path, *words)
    finish(config, 1, stage=stage)
    losses = [line["loss"] for line in metric_lines(config) if "loss" in line]
    assert len(losses) > 4 and np.isfinite(losses).all()


def test_f_nor_with_weights_in_bf16_in_parts_is_refused(tmp_path):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install deepspeed")
    material = write_material(tmp_path / "material")
    words = ["backend.kind=deepspeed", "backend.precision=bf16", "backend.weights=bf16"]
    stage, config = load_tiny("nor", material, tmp_path, *words, "backend.zero_stage=3")
    (rank,) = start_ranks(config, stage=stage)
    assert wait_for([rank]) == [2], said(config)
    assert "bf16 with backend.zero_stage 3 does not train F_nor" in said(config)
    assert "Traceback" not in said(config)


def test_a_discriminator_with_batch_norm_is_refused():
    judge = Discriminator(DiscriminatorConfig(channels=[4, 4]))
    refuse_batch_norm(judge)
    judge.blocks.append(torch.nn.BatchNorm2d(4))
    with pytest.raises(ConfigError, match="blocks.1 is a BatchNorm2d, whose statistics differ"):
        refuse_batch_norm(judge)


def test_weights_in_bf16_are_refused_where_they_would_round_statistics():
    refuse_in_bf16(Discriminator(DiscriminatorConfig(channels=[4, 4], spectral_norm=False)))
    with pytest.raises(ConfigError, match="stem has spectral norm, .*set spectral_norm=false"):
        refuse_in_bf16(Discriminator(DiscriminatorConfig(channels=[4, 4])))
    with pytest.raises(ConfigError, match="Sequential.0 is a BatchNorm2d"):
        refuse_in_bf16(torch.nn.Sequential(torch.nn.BatchNorm2d(2)))


def settings(tmp_path, found, **more):
    from norface.training.backends.zero_settings import read_settings

    (tmp_path / "zero.json").write_text(found if isinstance(found, str) else json.dumps(found))
    config = BackendConfig(kind="deepspeed", deepspeed=tmp_path / "zero.json", **more)
    return read_settings(config)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"optimizer": {"type": "Adam"}}, "optimizer is said by the stage's optimizer settings"),
        (
            {"gradient_clipping": 1.0},
            "gradient_clipping is said by the stage's optimizer.clip_norm",
        ),
        ({"bf16": {"enabled": True}}, "bf16 is said by backend.precision and backend.weights"),
        ({"zero_optimisation": {}}, "zero_optimisation is not handed on"),
        ({"zero_optimization": {"offload_optimizer": {}}}, "offload_optimizer is not handed on"),
        ({"zero_optimization": {"stage": 2}}, "backend.zero_stage is 1, but .*zero.json says 2"),
        ({"zero_optimization": {"stage": 5}}, "stage: found 5; valid: 0, 1, 2, 3"),
        ("{", "zero.json: not json"),
        ("[]", "expected an object"),
    ],
)
def test_a_json_that_contradicts_the_config_is_refused_in_one_line(tmp_path, found, message):
    with pytest.raises(ConfigError, match=message) as caught:
        settings(tmp_path, found, zero_stage=1)
    assert "\n" not in str(caught.value)


def test_auto_and_sizes_of_a_json_are_taken(tmp_path):
    zero = {"stage": "auto", "reduce_bucket_size": 1000}
    found = settings(tmp_path, {"gradient_clipping": "auto", "zero_optimization": zero})
    assert found["zero_optimization"] == {"stage": 1, "reduce_bucket_size": 1000}
    assert settings(tmp_path, {}, zero_stage=2)["zero_optimization"]["stage"] == 2


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_shipped_settings_are_taken(stage):
    from norface.training.backends.zero_settings import read_settings

    path = f"configs/deepspeed/zero{stage}.json"
    found = read_settings(BackendConfig(kind="deepspeed", deepspeed=path))
    assert found["zero_optimization"]["stage"] == stage


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zero_stage": 1}, "'zero_stage': only for 'kind' deepspeed"),
        ({"kind": "deepspeed", "static_graph": True}, "only for 'kind' accelerate"),
        ({"weights": "bf16"}, "bf16 only with 'kind' deepspeed and 'precision' bf16"),
        (
            {"kind": "deepspeed", "weights": "bf16", "precision": "bf16", "zero_stage": 0},
            "bf16 needs backend.zero_stage 1, 2 or 3",
        ),
    ],
)
def test_choices_that_cannot_work_together_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        build_backend(build_config(BackendConfig, {"device": "cpu", **values}))
