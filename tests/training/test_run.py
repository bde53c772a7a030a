"""The run folder: whose it is, what it holds, and how a run ends."""

from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from disks import remount, small_disk
from ranks import finish, said, start_ranks, tiny_config, wait_for
from tiny import TinyStage

from norface.config import load_config, save_config
from norface.errors import CheckpointError, ConfigError, TrainingError
from norface.tracking import read_metrics
from norface.training.checkpoint import CheckpointFolder
from norface.training.run import check_folder, run_stage
from norface.training.stages import load_stage


def test_a_run_folder_holds_config_facts_metrics_samples_checkpoints_and_weights(tmp_path):
    folder = run_stage(TinyStage, tiny_config(tmp_path, "trainer.sample_every_steps=25"))
    assert folder == tmp_path / "run"
    assert yaml.safe_load((folder / "config.yaml").read_text())["width"] == 16
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["status"], facts["step"], facts["kind"]) == ("finished", 60, "tiny")
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [
        "00000025.png",
        "00000050.png",
        "00000060.png",
    ]
    assert (folder / "tiny.safetensors").exists()
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(4, 61, 4))
    assert [line["images"] for line in lines] == list(range(32, 481, 32))
    assert lines[-1]["loss"] < lines[0]["loss"] / 1.5
    assert 0 < lines[-1]["data_wait_share"] < 1 and lines[-1]["images_per_second"] > 0
    assert "validation/error" in lines[-1]


def test_steps_are_whole_global_batches_and_round_up(tmp_path):
    folder = run_stage(TinyStage, tiny_config(tmp_path, "trainer.images=17"))
    assert json.loads((folder / "run.json").read_text())["step"] == 3


def test_metrics_are_means_over_the_steps_since_they_were_last_written(tmp_path):
    each = run_stage(TinyStage, tiny_config(tmp_path, "name=each", "trainer.log_every_steps=1"))
    four = run_stage(TinyStage, tiny_config(tmp_path, "name=four"))

    def losses(folder):
        return [json.loads(text)["loss"] for text in (folder / "metrics.jsonl").open()]

    assert losses(four)[0] == pytest.approx(sum(losses(each)[:4]) / 4, rel=1e-12)


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("width=8", "width was 16, is 8 now"),
        ("seed=3", "seed was 0, is 3 now"),
        ("backend.precision=bf16", "backend.precision was 'fp32', is 'bf16' now"),
    ],
)
def test_a_folder_of_another_config_is_refused_by_the_key_that_differs(tmp_path, override, found):
    run_stage(TinyStage, tiny_config(tmp_path))
    before = (tmp_path / "run" / "config.yaml").read_text()
    with pytest.raises(CheckpointError, match=found):
        run_stage(TinyStage, tiny_config(tmp_path, override))
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_a_run_goes_on_with_its_pictures_kept_on_another_disk(tmp_path):
    def config(*words):
        config_class = load_stage("mae")[0]
        return load_config(config_class, None, ["data.shards=[shards]", *words])

    save_config(config("data.decoded_folder=/scratch/7"), tmp_path / "config.yaml")
    changes = ["data.decoded_folder=/scratch/8", "data.cache_folder=/scratch/8", "data.workers=4"]
    assert check_folder(tmp_path, config(*changes)) is False
    with pytest.raises(CheckpointError, match="data.split was None, is 'train' now"):
        check_folder(tmp_path, config("data.split=train"))


def test_a_start_that_failed_before_it_saved_is_in_nobodys_way(tmp_path):
    poisoned = ("poisoned_step=6", "trainer.save_every_steps=50", "trainer.log_every_steps=2")
    with pytest.raises(TrainingError, match="rec not finite"):
        run_stage(TinyStage, tiny_config(tmp_path, *poisoned))
    folder = tmp_path / "run"
    failed = json.loads((folder / "run.json").read_text())
    run_stage(TinyStage, tiny_config(tmp_path, "width=8"))
    aside = folder / "failed-1"
    assert "width: 16" in (aside / "config.yaml").read_text() and read_metrics(aside)
    kept, facts = (json.loads((one / "run.json").read_text()) for one in (aside, folder))
    assert kept["id"] == failed["id"] != facts["id"] and facts["starts"] == 1
    assert (aside / kept["root"]).resolve() == (folder / facts["root"]).resolve()
    # One that failed with a checkpoint behind it holds the name.
    with pytest.raises(TrainingError):
        run_stage(TinyStage, tiny_config(tmp_path, "name=saved", "poisoned_step=20",
                                         "trainer.save_every_steps=3"))  # fmt: skip
    with pytest.raises(CheckpointError, match="poisoned_step was 20, is -1 now"):
        run_stage(TinyStage, tiny_config(tmp_path, "name=saved"))


def test_fewer_images_than_were_trained_are_refused(tmp_path):
    run_stage(TinyStage, tiny_config(tmp_path))
    with pytest.raises(CheckpointError, match="already at 480 images"):
        run_stage(TinyStage, tiny_config(tmp_path, "trainer.images=80"))


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written") as caught:
        run_stage(TinyStage, tiny_config(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_read_only_disk_is_one_line(tmp_path):
    with (
        small_disk(tmp_path / "disk", "ro") as disk,
        pytest.raises(CheckpointError, match="read-only file system"),
    ):
        run_stage(TinyStage, tiny_config(disk))


class LosesTheRightToWrite(TinyStage):
    """Its disk becomes read-only before the first checkpoint after step 10."""

    def train_batch(self, batch, step):
        if step == 10:
            remount(self.config.root, "ro")
        return super().train_batch(batch, step)


def test_a_disk_that_becomes_read_only_ends_the_run_in_one_line_and_nothing_saved_is_lost(
    tmp_path, monkeypatch
):
    # A file that is open for writing keeps `mount` from what a failing disk does all the same.
    monkeypatch.setattr("norface.training.run.alone_in", lambda *_: contextlib.nullcontext())
    whole = run_stage(TinyStage, tiny_config(tmp_path / "whole"))
    with small_disk(tmp_path / "disk", "size=9m") as disk:
        with pytest.raises(CheckpointError, match="read-only file system"):
            run_stage(LosesTheRightToWrite, tiny_config(disk))
        assert CheckpointFolder(disk / "run" / "checkpoints", keep=2).newest_whole().step == 7
        remount(disk, "rw")
        again = run_stage(TinyStage, tiny_config(disk))
        weights = [(folder / "tiny.safetensors").read_bytes() for folder in (whole, again)]
        assert weights[0] == weights[1]


def test_on_two_ranks_an_unwritable_folder_is_told_once_and_both_end_with_2(tmp_path):
    (tmp_path / "run").write_text("")
    config = tiny_config(tmp_path)
    assert wait_for(start_ranks(config, 2)) == [2, 2]
    assert said(config).count("cannot be written") == 1


@pytest.mark.parametrize("name", ["../run", "/tmp/run", ""])
def test_a_name_that_leads_out_of_the_root_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="a folder below root"):
        run_stage(TinyStage, tiny_config(tmp_path).model_copy(update={"name": name}))


def test_a_loss_that_is_not_finite_ends_the_run_and_is_never_saved(tmp_path):
    config = tiny_config(tmp_path, "poisoned_step=20", "trainer.save_every_steps=3")
    with pytest.raises(TrainingError, match="step 21: rec not finite on rank 0, batch e2p0, e2p1"):
        run_stage(TinyStage, config)
    checkpoints = CheckpointFolder(tmp_path / "run" / "checkpoints", keep=2)
    assert checkpoints.newest_whole().step == 18


def test_a_loss_that_is_not_finite_on_one_rank_ends_both(tmp_path):
    config = tiny_config(tmp_path, "poisoned_step=20", "trainer.batch_per_rank=4")
    assert wait_for(start_ranks(config, 2)) == [2, 2]
    assert said(config).count("rec not finite on rank 1, batch e2p4, e2p5") == 1


class PoisonedWeights(TinyStage):
    """Ends with weights that are not finite though its losses are."""

    def train_batch(self, batch, step):
        metrics = super().train_batch(batch, step)
        if step == 20:
            self.average[0].bias.data[0] = float("inf")
        return metrics


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    with pytest.raises(TrainingError, match=r"step 21: weights average\.0\.bias are not finite"):
        run_stage(PoisonedWeights, tiny_config(tmp_path))


class FailsOnRankOne(TinyStage):
    """Meets a bug of its own on rank 1."""

    def train_batch(self, batch, step):
        if step == 5 and self.backend.rank == 1:
            raise KeyError("a bug")
        return super().train_batch(batch, step)


def test_when_a_rank_fails_the_other_says_that_it_is_gone_and_ends(tmp_path):
    config = tiny_config(tmp_path)
    assert wait_for(start_ranks(config, 2, stage=FailsOnRankOne)) == [1, 1]
    assert "KeyError: 'a bug'" in (tmp_path / "rank-1.txt").read_text()
    assert "another rank is gone" in (tmp_path / "rank-0.txt").read_text()
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["status"] == "failed"


def test_a_process_can_run_many_stages_one_after_another(tmp_path):
    for name in ("one", "two", "three"):
        run_stage(TinyStage, tiny_config(tmp_path, f"name={name}"))
    weights = [(tmp_path / n / "tiny.safetensors").read_bytes() for n in ("one", "two", "three")]
    assert weights[0] == weights[1] == weights[2]


def test_two_ranks_can_run_many_stages_one_after_another(tmp_path):
    config = tiny_config(tmp_path, "trainer.batch_per_rank=4", "trainer.images=80")
    finish(config, 2, runs=3)
    first = (tmp_path / "run-0" / "tiny.safetensors").read_bytes()
    assert first == (tmp_path / "run-2" / "tiny.safetensors").read_bytes()
