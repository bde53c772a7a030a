"""DeepSpeed's engines train what torch trains, at every ZeRO stage, and leave the same files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from ranks import finish, said, start_ranks, tiny_config, wait_for
from safetensors.torch import load_file
from test_resume import assert_same_run, final_weights, metric_lines
from tiny import TinyStage

os.environ.setdefault("DS_ACCELERATOR", "cpu")
pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: pip install deepspeed")

RANKS = 2
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def split_all(tmp_path_factory):
    """Settings under which stage 3 splits small parameters too; by default it keeps them whole."""
    path = tmp_path_factory.mktemp("json") / "zero.json"
    path.write_text('{"zero_optimization": {"stage3_param_persistence_threshold": 0}}')
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Twenty steps of two ranks under Accelerate."""
    config = make_config(tmp_path_factory.mktemp("plain"))
    finish(config, RANKS, stage=Watched)
    return config


def make_config(root: Path, *changes: str):
    length = ["trainer.images=160", "trainer.batch_per_rank=4", "trainer.log_every_steps=1"]
    return tiny_config(root, *length, *changes)


def zero(stage: int, path: Path) -> list[str]:
    return ["backend.kind=deepspeed", f"backend.zero_stage={stage}", f"backend.deepspeed={path}"]


class Watched(TinyStage):
    """Says at the end how many numbers of Adam's first moment this rank holds."""

    def evaluate(self, step: int) -> dict[str, float]:
        optimizer = self.optimizer
        adam = getattr(optimizer, "_adam", None) or getattr(optimizer, "_optimizer", None)
        adam = adam or optimizer._engine.optimizer
        held = sum(state["exp_avg"].numel() for state in adam.state.values())
        print(f"rank {self.backend.rank} holds {held} of 161", flush=True)
        return super().evaluate(step)


@pytest.mark.parametrize("stage", [pytest.param(0, marks=SLOW), 1, pytest.param(2, marks=SLOW), 3])
def test_every_stage_trains_what_accelerate_trains(tmp_path, plain, split_all, stage):
    config = make_config(tmp_path, *zero(stage, split_all))
    finish(config, RANKS, stage=Watched)
    for mine, expected in zip(metric_lines(config), metric_lines(plain), strict=True):
        assert mine["loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert mine.get("validation/error") == pytest.approx(expected.get("validation/error"))
    for name, tensor in final_weights(plain).items():
        torch.testing.assert_close(final_weights(config)[name], tensor, rtol=1e-6, atol=1e-7)
    # Each rank holds half of the moments (and padding), or at stage 0 all of them.
    held = {int(line.split()[3]) for line in said(config).splitlines() if " holds " in line}
    assert held == {161} if stage == 0 else all(80 <= number <= 90 for number in held)
    whole = load_file(tmp_path / "run" / "checkpoints" / "step-00000020" / "network.safetensors")
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32}
    assert sum(tensor.numel() for tensor in whole.values()) == 161


@pytest.mark.slow
def test_two_resumes_within_an_epoch_end_in_the_same_bits(tmp_path, split_all):
    # Stages 1 and 2 are killed and resumed below.
    whole = make_config(tmp_path / "whole", *zero(3, split_all))
    finish(whole, RANKS)
    for images in (24, 48, 160):
        parts = make_config(tmp_path / "parts", *zero(3, split_all), f"trainer.images={images}")
        finish(parts, RANKS)
    assert_same_losses_and_bits(parts, whole)


def assert_same_losses_and_bits(config, other) -> None:
    assert [line["loss"] for line in metric_lines(config)] == [
        line["loss"] for line in metric_lines(other)
    ]
    for name, tensor in final_weights(other).items():
        assert torch.equal(final_weights(config)[name], tensor), name


@pytest.mark.parametrize(
    ("first", "then"),
    [(1, None), *(pytest.param(*pair, marks=SLOW) for pair in ((None, 2), (2, 3), (3, None)))],
)
def test_a_checkpoint_goes_on_under_another_backend(tmp_path, plain, split_all, first, then):
    def options(stage):
        return [] if stage is None else zero(stage, split_all)

    finish(make_config(tmp_path, *options(first), "trainer.images=80"), RANKS)
    config = make_config(tmp_path, *options(then))
    finish(config, RANKS, stage=SaysWhatItLoaded)
    assert "loaded bit for bit" in said(config)
    for mine, expected in zip(metric_lines(config), metric_lines(plain), strict=True):
        assert mine["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    for name, tensor in final_weights(plain).items():
        torch.testing.assert_close(final_weights(config)[name], tensor, rtol=1e-6, atol=1e-7)


class SaysWhatItLoaded(TinyStage):
    """Compares what it gives right after loading with what it was given."""

    def load_state_dict(self, state):
        super().load_state_dict(state)
        again = self.state_dict()
        if self.backend.is_main:
            for model, tensors in state["models"].items():
                for name, tensor in tensors.items():
                    assert torch.equal(again["models"][model][name], tensor), name
            for index, held in state["optimizers"]["network"]["state"].items():
                for key, value in held.items():
                    found = again["optimizers"]["network"]["state"][index][key]
                    assert torch.equal(found, value), key
            print("loaded bit for bit", flush=True)


def test_nothing_that_deepspeed_wrote_is_in_a_checkpoint(tmp_path, split_all):
    config = make_config(tmp_path, *zero(1, split_all), "trainer.images=16")
    finish(config, RANKS)
    (folder,) = (tmp_path / "run" / "checkpoints").iterdir()
    names = {"network.safetensors", "average.safetensors", "state.pt", "config.yaml"}
    assert {path.name for path in folder.iterdir()} == names | {"manifest.json"}
    assert set(json.loads((folder / "manifest.json").read_text())["sha256"]) == names
    state = torch.load(folder / "state.pt", weights_only=True)["optimizers"]["network"]
    assert [value["exp_avg"].shape for value in state["state"].values()] == [
        (16, 8), (16,), (1, 16), (1,)
    ]  # fmt: skip


@pytest.mark.slow
def test_weights_in_bf16_keep_fp32_masters_in_checkpoints_and_resume(tmp_path, plain, split_all):
    bf16 = [*zero(2, split_all), "backend.precision=bf16", "backend.weights=bf16"]
    whole = make_config(tmp_path / "whole", *bf16)
    finish(whole, RANKS)
    for images in (80, 160):
        finish(make_config(tmp_path / "parts", *bf16, f"trainer.images={images}"), RANKS)
    parts = make_config(tmp_path / "parts", *bf16)
    assert_same_losses_and_bits(parts, whole)
    saved = load_file(parts.root / "run" / "checkpoints" / "step-00000020" / "network.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in saved.values())
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in saved.values())
    for mine, expected in zip(metric_lines(whole), metric_lines(plain), strict=True):
        assert mine["loss"] == pytest.approx(expected["loss"], rel=0.05)


@pytest.mark.slow
def test_a_single_process_needs_no_launcher_and_can_train_twice(tmp_path, split_all):
    config = make_config(tmp_path, *zero(2, split_all), "trainer.batch_per_rank=8")
    finish(config, 1, runs=2)
    other = make_config(tmp_path / "accelerate", "trainer.batch_per_rank=8")
    finish(other, 1)
    for number in range(2):
        one = config.model_copy(update={"name": f"run-{number}"})
        assert_same_losses_and_bits(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_a_killed_rank_changes_no_bit(tmp_path, split_all, stage):
    import random
    import signal
    import time

    options = [*zero(stage, split_all), "trainer.save_every_steps=3"]
    whole = make_config(tmp_path / "whole", *options)
    finish(whole, RANKS)
    config, chance = make_config(tmp_path / "killed", *options, "slow_s=0.05"), random.Random(stage)
    for kill in range(3):
        processes = start_ranks(config, RANKS)
        deadline = time.monotonic() + 60
        wanted = f"step-{3 * (kill + 1):08d}"
        while not (tmp_path / "killed" / "run" / "checkpoints" / wanted).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.1))
        os.kill(processes[chance.randrange(RANKS)].pid, signal.SIGKILL)
        wait_for(processes, timeout_s=5)
    finish(config, RANKS)
    assert_same_run(config, whole)
