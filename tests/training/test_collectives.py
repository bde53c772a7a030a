"""The global batch on every rank: two real gloo ranks against one process."""

import multiprocessing
import os

import pytest
import torch
from torch import distributed

from launchers.local import find_free_port
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.backends.collectives import gather_rows


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (3, 2) and inputs (6, 3) in double precision."""
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(n, m, generator=generator).double() for n, m in ((3, 2), (6, 3)))


def global_loss(rows: torch.Tensor) -> torch.Tensor:
    """Squared coefficient of variation: no mean of the ranks' own losses equals it."""
    total = rows.exp().sum(dim=0)
    return total.var(correction=0) / total.mean() ** 2


def gradient_of_rank(rank: int, port: str, queue) -> None:
    """Gradient of the weights after the mean over ranks, as DistributedDataParallel takes it."""
    torch.set_num_threads(1)  # a forked process cannot use the threads of the one before
    distributed.init_process_group("gloo", init_method=port, rank=rank, world_size=2)
    weight, inputs = make_batch()
    weight.requires_grad_()
    rows = inputs[3 * rank : 3 * rank + 3] @ weight
    global_loss(gather_rows(rows, rank=rank, world_size=2)).backward()
    distributed.all_reduce(weight.grad)
    queue.put((rank, (weight.grad / 2).tolist()))
    distributed.barrier()
    distributed.destroy_process_group()


def test_a_loss_over_gathered_rows_has_the_gradient_of_one_rank(tmp_path):
    weight, inputs = make_batch()
    weight.requires_grad_()
    global_loss(inputs @ weight).backward()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    ranks = [
        context.Process(target=gradient_of_rank, args=(rank, f"file://{tmp_path}/store", queue))
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    found = [queue.get(timeout=60) for _ in ranks]
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]
    for _, gradient in found:
        assert gradient == [pytest.approx(row, rel=1e-10) for row in weight.grad.tolist()]


def test_one_rank_gathers_its_own_rows():
    rows = torch.ones(2, 3)
    assert gather_rows(rows, rank=0, world_size=1) is rows


def averages_of_rank(rank: int, port: int, queue) -> None:
    """Running means after a pass, of a network that trains its BatchNorm and of a frozen one."""
    torch.set_num_threads(1)
    words = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(word) for name, word in words.items()}, MASTER_ADDR="127.0.0.1")
    backend = build_backend(BackendConfig(device="cpu"))
    found = []
    for is_frozen in (False, True):
        network = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
        network[0].requires_grad_(not is_frozen)
        prepared = backend.prepare(network)
        network.train(not is_frozen)
        network[0].running_mean.fill_(rank)
        prepared(torch.tensor([[0.0, 0.0], [2.0, 2.0]])).sum().backward()
        found.append(network[0].running_mean.tolist())
    queue.put((rank, found))
    backend.close()


def test_running_averages_that_change_are_those_of_rank_0_and_frozen_ones_are_not_sent():
    context = multiprocessing.get_context("spawn")
    queue, port = context.Queue(), find_free_port()
    ranks = [
        context.Process(target=averages_of_rank, args=(rank, port, queue)) for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    found = dict(queue.get(timeout=120) for _ in ranks)
    for rank in ranks:
        rank.join()
    # 0.9 of rank 0's and 0.1 of this batch's mean; what is frozen stays each rank's own.
    assert found == {
        0: [pytest.approx([0.1, 0.1]), [0.0, 0.0]],
        1: [pytest.approx([0.1, 0.1]), [1.0, 1.0]],
    }
