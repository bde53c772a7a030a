"""The world that runs is the one that was asked for; a process can have one after another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import said, start_ranks, tiny_config, wait_for
from tiny import TinyStage

from launchers.local import find_free_port
from norface.errors import ConfigError, LaunchError
from norface.training.backends.accelerate import AccelerateBackend
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.backends.ranks import check_world_size, is_launched

TINY = str(Path(__file__).with_name("tiny.py"))
LAUNCHED = {
    "RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


def test_an_environment_is_whole_or_empty():
    assert is_launched(LAUNCHED)
    assert not is_launched({"HOME": "/"})


@pytest.mark.parametrize("missing", LAUNCHED)
def test_a_partly_set_environment_is_refused_by_what_is_missing(missing):
    partly = {name: value for name, value in LAUNCHED.items() if name != missing}
    with pytest.raises(LaunchError, match=f"not {missing};"):
        AccelerateBackend(BackendConfig(), partly)


@pytest.mark.parametrize(
    ("configured", "exported", "found"),
    [(4, None, "backend.world_size asks for 4"), (None, "3", "NORFACE_WORLD_SIZE asks for 3")],
)
def test_another_world_size_than_asked_for_is_refused_with_both_numbers(
    configured, exported, found
):
    with pytest.raises(LaunchError, match=f"{found} ranks, found 1"):
        check_world_size(1, configured, exported)


def test_the_asked_world_size_is_accepted():
    check_world_size(2, 2, "2")
    check_world_size(2, None, None)


def test_a_world_of_one_is_refused_in_process_when_two_were_asked_for(monkeypatch):
    monkeypatch.setenv("NORFACE_WORLD_SIZE", "2")
    with pytest.raises(LaunchError, match="asks for 2 ranks, found 1"):
        build_backend(BackendConfig(device="cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        build_backend(BackendConfig(device="cuda"))


def test_threads_are_set_for_the_run_and_restored_after_it():
    before = torch.get_num_threads()
    backend = build_backend(BackendConfig(device="cpu", threads=before + 1))
    assert torch.get_num_threads() == before + 1
    backend.close()
    assert torch.get_num_threads() == before


def test_one_process_has_one_backend_after_another():
    for _ in range(3):
        backend = build_backend(BackendConfig(device="cpu"))
        network = backend.prepare(torch.nn.Linear(2, 1))
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
        backend.prepare_optimizer(optimizer, network).descend(network(torch.ones(1, 2)).sum())
        assert backend.unwrap(network).weight.grad.tolist() == [[1, 1]]
        assert backend.reduce_mean({"a": torch.tensor(3.0)}) == {"a": 3.0}
        assert (backend.rank, backend.world_size, backend.is_main) == (0, 1, True)
        backend.close()


def test_bf16_is_autocast_and_leaves_weights_alone():
    backend = build_backend(BackendConfig(device="cpu", precision="bf16"))
    network = backend.prepare(torch.nn.Linear(2, 1))
    with backend.autocast():
        assert network(torch.ones(1, 2)).dtype == torch.bfloat16
    assert network.weight.dtype == torch.float32
    assert network(torch.ones(1, 2)).dtype == torch.float32
    backend.close()


class Collects(TinyStage):
    """Says what the collective operations give on every rank."""

    def evaluate(self, step: int) -> dict[str, float]:
        rank = self.backend.rank
        mean = self.backend.reduce_mean({"a": torch.tensor(float(rank)), "b": torch.tensor(1.0)})
        total = self.backend.all_reduce_sum(torch.tensor([rank, 1]))
        gathered = self.backend.gather_objects({"rank": rank})
        print(rank, mean, total.tolist(), gathered, flush=True)
        return {}


def test_collective_operations_agree_on_all_ranks(tmp_path):
    config = tiny_config(tmp_path, "trainer.images=48", "trainer.batch_per_rank=4")
    assert wait_for(start_ranks(config, 3, stage=Collects)) == [0, 0, 0]
    expected = "{'a': 1.0, 'b': 1.0} [3, 3] [{'rank': 0}, {'rank': 1}, {'rank': 2}]"
    for rank in range(3):
        assert f"{rank} {expected}" in said(config)


def test_gradients_of_ranks_are_averaged(tmp_path):
    # Without dropout's rank-wise masks: the first loss of 2 x 4 samples is that of 1 x 8.
    class OneStep(TinyStage):
        def train_batch(self, batch, step):
            self.network.eval()
            metrics = super().train_batch(batch, step)
            gradient = next(self.backend.unwrap(self.network).parameters()).grad
            return {**metrics, "gradient": gradient.double().norm().float()}

    whole = tiny_config(tmp_path / "1", "trainer.images=8", "trainer.log_every_steps=1")
    half = tiny_config(tmp_path / "2", "trainer.images=8", "trainer.batch_per_rank=4")
    assert wait_for(start_ranks(whole, 1, stage=OneStep)) == [0]
    assert wait_for(start_ranks(half, 2, stage=OneStep)) == [0, 0]

    def first_line(config):
        import json

        return json.loads((config.root / "run" / "metrics.jsonl").read_text().splitlines()[0])

    one, two = first_line(whole), first_line(half)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert two["gradient"] == pytest.approx(one["gradient"], rel=1e-5)


def launch(tmp_path: Path, *, ranks: int, asked: int) -> subprocess.CompletedProcess:
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
    command = [*torchrun, f"--master-port={find_free_port()}", TINY, f"root={tmp_path}"]
    overrides = ["trainer.images=80", "tracking.mlflow=false", "backend.device=cpu"]
    return subprocess.run(
        [*command, *overrides, f"backend.world_size={asked}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."},
    )


@pytest.mark.slow
def test_torchrun_ends_with_0_and_refuses_another_world_size(tmp_path):
    assert launch(tmp_path, ranks=2, asked=2).returncode == 0
    assert (tmp_path / "run" / "tiny.safetensors").exists()
    refused = launch(tmp_path, ranks=2, asked=3)
    assert refused.returncode != 0 and "asks for 3 ranks, found 2" in refused.stderr


@pytest.mark.slow
def test_thirty_undisturbed_runs_of_two_ranks_end_with_0(tmp_path):
    for number in range(30):
        config = tiny_config(tmp_path, f"name=run-{number}", "trainer.images=80")
        assert wait_for(start_ranks(config, 2)) == [0, 0], said(config)
