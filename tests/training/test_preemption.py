"""Stop signals become a flag; handlers come back; reading processes outlive the request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ranks import said, start_ranks, tiny_config, wait_for
from tiny import TinyStage

from norface.data.loader import GlobalBatchSampler, build_loader
from norface.errors import LaunchError
from norface.training import trainer
from norface.training.agreement import Looks
from norface.training.preemption import (
    RESUME_CODE,
    STOP_SIGNALS,
    StoppedOnRequest,
    catch_stop_signals,
)
from norface.training.run import run_stage
from norface.training.seeding import sample_rng


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_signal_is_noted_and_the_handler_from_before_comes_back(number):
    before = signal.getsignal(number)
    with catch_stop_signals() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked and stop.signal is number
    assert signal.getsignal(number) is before


def test_a_block_inside_another_shares_its_request():
    with catch_stop_signals() as outer:
        with catch_stop_signals() as inner:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert inner is outer and outer.asked
        with catch_stop_signals() as next_one:
            assert next_one.asked


def test_a_new_block_starts_unasked():
    with catch_stop_signals():
        os.kill(os.getpid(), signal.SIGUSR2)
    with catch_stop_signals() as stop:
        assert not stop.asked


def test_outside_the_main_thread_no_handler_is_set():
    handlers = []

    def work() -> None:
        with catch_stop_signals():
            handlers.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGUSR1)]


def test_a_run_that_was_asked_before_it_began_saves_after_its_first_step(tmp_path):
    with catch_stop_signals(), pytest.raises(StoppedOnRequest) as stopped:
        os.kill(os.getpid(), signal.SIGUSR1)
        run_stage(TinyStage, tiny_config(tmp_path))
    assert (stopped.value.step, stopped.value.code) == (1, RESUME_CODE)
    assert (tmp_path / "run" / "checkpoints" / "step-00000001").is_dir()


class Rows(torch.utils.data.Dataset):
    def __getitem__(self, draw: Any) -> dict[str, Any]:
        time.sleep(0.01)
        row = sample_rng(0, draw.epoch, draw.position, "x").normal(size=8)
        return {"x": torch.tensor(row, dtype=torch.float32), "key": f"p{draw.position}"}


class ReadsInProcesses(TinyStage):
    """Its pictures come from two reading processes."""

    def batches(self, start_step: int) -> Iterator[dict[str, Any]]:
        sampler = GlobalBatchSampler(
            80,
            batch_per_rank=self.config.trainer.batch_per_rank,
            rank=self.backend.rank,
            world_size=self.backend.world_size,
            seed=0,
            start_step=start_step,
        )
        return iter(build_loader(Rows(), sampler, workers=2))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_reading_processes_too_leaves_time_to_save(tmp_path, number):
    # Slurm signals every process of a job, not only the ranks.
    config = tiny_config(tmp_path, "trainer.images=4000", "trainer.log_every_steps=1")
    (process,) = start_ranks(config, stage=ReadsInProcesses)
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        time.sleep(0.01)
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(children) as file:
        readers = [int(word) for word in file.read().split()]
    assert len(readers) >= 2
    for pid in [*readers, process.pid]:
        os.kill(pid, number)
    assert wait_for([process], timeout_s=20) == [75], said(config)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in readers)


def test_a_rank_that_waits_for_another_ends_by_force_before_the_grace_time_is_over(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("NORFACE_GRACE_S", "1.5")
    config = tiny_config(tmp_path, "trainer.images=400000", "trainer.save_every_steps=5")
    processes = start_ranks(config, 2)
    while not any((tmp_path / "run" / "checkpoints").glob("step-*")):
        time.sleep(0.01)
    # Rank 1 never comes to the next collective, in which rank 0 waits outside of Python.
    os.kill(processes[1].pid, signal.SIGSTOP)
    time.sleep(0.5)
    asked = time.monotonic()
    os.kill(processes[0].pid, signal.SIGTERM)
    processes[0].join(20)
    took = time.monotonic() - asked
    processes[1].kill()
    assert processes[0].exitcode == RESUME_CODE, said(config)
    assert 1.4 < took < 15
    assert "rank 0: no step edge within 1.5 s of SIGTERM; ended by force" in said(config)


def test_without_a_hang_the_grace_time_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("NORFACE_GRACE_S", "0.2")
    threads, handler = threading.active_count(), signal.getsignal(signal.SIGUSR1)
    with catch_stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.asked
    time.sleep(0.4)
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1
    monkeypatch.setenv("NORFACE_GRACE_S", "soon")
    with pytest.raises(LaunchError, match="NORFACE_GRACE_S: found 'soon'"), catch_stop_signals():
        pass
    assert signal.getsignal(signal.SIGUSR1) is handler


def test_a_signal_between_the_handlers_and_the_block_is_followed_by_a_forced_end_too():
    program = """
import os, signal, time
from norface.training.preemption import STOP_SIGNALS, catch_stop_signals
install = signal.signal
def install_and_be_asked(number, handler):
    before = install(number, handler)
    if number == STOP_SIGNALS[0]:
        os.kill(os.getpid(), number)
    return before
signal.signal = install_and_be_asked
with catch_stop_signals() as stop:
    assert stop.asked
    time.sleep(60)  # never comes to a step edge
"""
    environment = {**os.environ, "NORFACE_GRACE_S": "0.5"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == RESUME_CODE, ended.stderr
    assert "no step edge within 0.5 s of SIGUSR1; ended by force" in ended.stderr


def test_on_a_gpu_ranks_look_after_16_steps_or_those_that_take_two_seconds():
    assert [Looks.choose(seconds) for seconds in (0.01, 0.125, 0.2, 0.9, 2.5)] == [16, 16, 10, 2, 1]
    on_cpu, on_gpu = Looks(on_gpu=False), Looks(on_gpu=True)
    for looks in (on_cpu, on_gpu):
        assert looks.due(1) and looks.propose(1) == 1
    on_cpu.accept(1, 1)
    on_gpu.accept(1, 16)
    assert on_cpu.due(2) and on_cpu.propose(2) == 1
    assert [step for step in range(1, 30) if on_gpu.due(step)][0] == 17


def test_ranks_that_seldom_look_stop_at_the_same_step(tmp_path, monkeypatch):
    # As on a GPU; steps of 0.4 s are looked at every fifth at the most.
    monkeypatch.setattr(trainer, "Looks", lambda on_gpu: Looks(on_gpu=True))
    config = tiny_config(
        tmp_path, "trainer.batch_per_rank=4", "slow_s=0.4", "trainer.log_every_steps=900",
        "trainer.hang_seconds=20", "trainer.save_every_steps=0",
    )  # fmt: skip
    processes = start_ranks(config, 2)
    while not any(
        '"step": 0' not in path.read_text() for path in tmp_path.glob("run/ranks/1.json")
    ):
        time.sleep(0.05)
    os.kill(processes[1].pid, signal.SIGUSR1)
    assert wait_for(processes, timeout_s=60) == [RESUME_CODE] * 2, said(config)
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert 1 <= int(saved.name.removeprefix("step-")) < 60
