"""The global batch on every rank: two real gloo ranks against one process."""

import multiprocessing

import pytest
import torch
from torch import distributed

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
