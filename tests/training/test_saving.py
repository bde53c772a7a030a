"""Which checkpoints stay, and saving in a thread beside the training."""

from __future__ import annotations

import threading

import pytest
import torch
from ranks import said, start_ranks, tiny_config, wait_for
from runs import assert_same_run
from test_checkpoint import make_manifest, make_state, save
from tiny import TinyStage

from norface.errors import CheckpointError, ConfigError
from norface.tracking import read_metrics
from norface.training.checkpoint import CheckpointFolder
from norface.training.retention import Retention, first_of_each
from norface.training.run import run_stage
from norface.training.saving import CheckpointWriter, copy_to_host


def test_the_newest_and_one_in_every_so_many_steps_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2, keep_every_steps=10)
    # As with a save every 7 steps, and one more at 12 where the job was asked to stop.
    for step in (7, 12, 14, 21, 28, 35, 42):
        save(folder, step)
    kept = [int(path.name.removeprefix("step-")) for path in folder.paths()]
    assert kept == [12, 21, 35, 42]
    assert first_of_each([7, 14, 21, 28, 35], 10) == {14, 21, 35}


@pytest.mark.parametrize(
    ("best", "kept"), [("", {40}), ("f1", {20, 40}), ("-loss", {10, 40}), ("absent", {40})]
)
def test_the_best_by_a_measure_is_kept_the_first_of_equals(best, kept):
    measures = {10: {"f1": 0.4, "loss": 1.0}, 20: {"f1": 0.5, "loss": 2.0},
                30: {"f1": 0.5, "loss": 1.0}, 40: {}}  # fmt: skip
    assert Retention(1, best=best).choose(measures) == kept


def test_a_better_measure_is_saved_when_it_comes_and_stays(tmp_path):
    often = ("trainer.evaluate_every_steps=6", "trainer.save_every_steps=0", "trainer.images=240")
    folder = run_stage(
        TinyStage,
        tiny_config(
            tmp_path, *often, "trainer.keep_best=-validation/error", "trainer.keep_checkpoints=1"
        ),
    )
    errors = {one["step"]: one["validation/error"] for one in read_metrics(folder)
              if "validation/error" in one}  # fmt: skip
    best = min(errors, key=errors.get)
    found = CheckpointFolder(folder / "checkpoints", keep=1).measures(upto=99)
    assert set(found) == {best, 30}
    assert found[best]["validation/error"] == errors[best]
    with pytest.raises(ConfigError, match="'validation/f1'; this stage measures: validation/error"):
        run_stage(
            TinyStage, tiny_config(tmp_path, *often, "name=f1", "trainer.keep_best=validation/f1")
        )


def test_a_copy_has_memory_of_its_own():
    state = make_state()
    copied = copy_to_host(state)
    state["models"]["network"]["weight"].zero_()
    assert copied["models"]["network"]["weight"].eq(1).all()
    assert copied["extra"] == state["extra"]
    moments = copied["optimizers"]["network"]["state"][0]["exp_avg"]
    assert moments.data_ptr() != state["optimizers"]["network"]["state"][0]["exp_avg"].data_ptr()


class GatedFolder(CheckpointFolder):
    """A disk that waits to be let on."""

    gate = threading.Event()

    def save(self, *arguments):
        self.gate.wait(60)
        return super().save(*arguments)


def test_what_is_written_in_the_background_is_the_state_of_its_step(tmp_path):
    folder = GatedFolder(tmp_path, keep=9)
    writer = CheckpointWriter(folder, background=True)
    state = make_state(1.0)
    writer.save(state, make_manifest(1), "")
    assert not folder.path(1).exists()
    state["models"]["network"]["weight"].add_(1)
    folder.gate.set()
    writer.save(state, make_manifest(2), "")
    # The second has waited for the first.
    assert folder.path(1).exists()
    writer.wait()
    for step in (1, 2):
        weight = folder.load(step)["models"]["network"]["weight"]
        assert torch.equal(weight, torch.full((8,), float(step)))


def test_a_write_that_fails_in_the_background_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    writer = CheckpointWriter(CheckpointFolder(tmp_path / "file", keep=1), background=True)
    writer.save(make_state(), make_manifest(1), "")
    with pytest.raises(CheckpointError, match="not written"):
        writer.wait()
    writer.wait()


@pytest.mark.parametrize("ranks", [1, 2])
def test_saving_in_the_background_ends_in_the_same_bits(tmp_path, ranks):
    batch = f"trainer.batch_per_rank={8 // ranks}"
    plain = tiny_config(tmp_path / "plain", batch)
    beside = tiny_config(tmp_path / "beside", batch, "trainer.save_in_background=true")
    for config in (plain, beside):
        assert wait_for(start_ranks(config, ranks)) == [0] * ranks, said(config)
    assert_same_run(beside, plain)
    folders = [CheckpointFolder(c.root / "run" / "checkpoints", keep=2) for c in (plain, beside)]
    first, second = (folder.load(folder.newest_whole().step) for folder in folders)
    for name, tensor in first["models"]["network"].items():
        assert torch.equal(tensor, second["models"]["network"][name])


class LosesItsDisk(TinyStage):
    """Its checkpoints' folder becomes a file while it trains."""

    def train_batch(self, batch, step):
        if step == 10 and self.backend.is_main:
            place = self.config.root / "run" / "checkpoints"
            place.rename(self.config.root / "moved")
            place.write_text("")
        return super().train_batch(batch, step)


def test_a_failure_of_the_writer_ends_all_ranks_within_a_few_steps(tmp_path):
    config = tiny_config(
        tmp_path, "trainer.batch_per_rank=4", "trainer.save_in_background=true", "slow_s=0.05",
        "trainer.log_every_steps=1",
    )  # fmt: skip
    assert wait_for(start_ranks(config, 2, stage=LosesItsDisk)) == [2, 2]
    assert said(config).count("not written") == 1
    # The write of step 14 failed; step 21 would have been the next to look at it.
    assert 14 <= read_metrics(tmp_path / "run")[-1]["step"] < 21
