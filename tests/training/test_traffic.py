"""What a step sends and holds, on paper against what the kernel counts for two gloo ranks."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys

import pytest
import torch
from ranks import import_engine, wait_for
from torch import nn
from wire import bytes_sent

from launchers.local import find_free_port
from norface.bench.traffic import RANKS, count_traffic
from norface.training.backends.base import BackendConfig, build_backend
from norface.training.backends.traffic import held_bytes, sent_bytes

os.environ.setdefault("DS_ACCELERATOR", "cpu")
STEPS, GATHERS = 4, 2
BARRIER = 1000
"Bytes; a barrier of two ranks sends a sixth of it."


def test_a_ring_sends_twice_what_it_reduces_less_the_own_part():
    assert sent_bytes(100, zero_stage=None, ranks=1) == 0
    assert sent_bytes(100, zero_stage=None, ranks=8) == 2 * 7 / 8 * 400
    assert sent_bytes(100, zero_stage=2, ranks=8) == 3 * 7 / 8 * 400
    assert sent_bytes(100, zero_stage=3, ranks=8, gathers=1) == 3 * 7 / 8 * 400


def test_zero_splits_sixteen_bytes_a_weight_over_the_ranks():
    assert held_bytes(100, zero_stage=None, ranks=8).total == 1600
    assert held_bytes(100, zero_stage=1, ranks=8).total == 800 + 150
    assert held_bytes(100, zero_stage=2, ranks=8).total == 400 + 50 + 150
    # Weights, gradients, masters, moments in parts; a plain copy and the average whole.
    assert held_bytes(100, zero_stage=3, ranks=8, averaged=True).total == 250 + 800


def test_the_table_of_the_full_size_stages_is_that_of_their_networks():
    found = count_traffic()
    assert len(found.rows) == 3 * 4 * len(RANKS)
    numbers = found.numbers["nor"]
    row = next(r for r in found.rows if (r.stage, r.backend, r.ranks) == ("nor", "DDP", 8))
    assert row.sent_gb == pytest.approx(2 * 7 / 8 * 4 * sum(numbers.values()) / 1e9, abs=1e-3)
    held = 16 * sum(numbers.values()) + 4 * numbers["F_nor"]
    assert row.held_gb == pytest.approx(held / 1e9, abs=1e-3)
    assert found.describe().count("\n| ") == 1 + 12


def count_on_rank(rank, port, zero_stage, path):
    """Train a network on one of two ranks; write what was sent in a step, and what is held."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    more = {} if zero_stage is None else {"kind": "deepspeed", "zero_stage": zero_stage}
    backend = build_backend(BackendConfig(device="cpu", **more))
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(512, 512) for _ in range(4)))
    numbers = sum(parameter.numel() for parameter in network.parameters())
    prepared = backend.prepare(network)
    adam = torch.optim.Adam(prepared.parameters(), 1e-4, fused=True)
    descent = backend.prepare_optimizer(adam, prepared)
    sent, asked = [], []
    for _ in range(STEPS):
        backend.barrier()
        before = bytes_sent()
        descent.descend(prepared(torch.randn(4, 512)).square().mean())
        # Once the other rank is here, too, it has all that was sent to it.
        backend.barrier()
        sent.append(bytes_sent() - before)
        # As stage nor does: averaged after a step, or asked while frozen.
        before = bytes_sent()
        backend.whole(prepared)
        bare = backend.unwrap(prepared).eval().requires_grad_(False)
        bare(torch.randn(4, 512, requires_grad=True)).sum().backward()
        bare.requires_grad_(True).train()
        backend.barrier()
        asked.append(bytes_sent() - before)
    states = [value for one in adam.state.values() for value in one.values() if value.ndim]
    if zero_stage is not None and zero_stage > 0:
        states = [*descent.flat_parts(0)]
        states += [v for s in descent._adam.state.values() for v in s.values() if v.ndim]
    held = sum(tensor.numel() * tensor.element_size() for tensor in states)
    if rank == 0:
        found = {"numbers": numbers, "sent": sent, "asked": asked, "optimizer": held}
        path.write_text(json.dumps(found))
    backend.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's tcp_info")
@pytest.mark.parametrize("zero_stage", [None, 1, 2, 3])
def test_two_ranks_send_and_hold_what_the_count_says(tmp_path, zero_stage):
    if zero_stage is not None:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
        import_engine()
    context, port, path = multiprocessing.get_context("fork"), find_free_port(), tmp_path / "found"
    ranks = [
        context.Process(target=count_on_rank, args=(rank, port, zero_stage, path))
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    assert wait_for(ranks) == [0, 0]
    found = json.loads(path.read_text())
    where = {"zero_stage": zero_stage, "ranks": 2}
    sent = sent_bytes(found["numbers"], whole_scatter=True, **where)
    # The first step of ZeRO 3 does not know yet what will be used again.
    # The least of the others: the kernel counts what a busy machine makes it send again, too.
    assert min(found["sent"][1:]) == pytest.approx(sent, rel=0.01)
    more = sent_bytes(found["numbers"], gathers=GATHERS, **where) - sent_bytes(
        found["numbers"], **where
    )
    assert min(found["asked"][1:]) == pytest.approx(more, rel=0.01, abs=BARRIER)
    held = held_bytes(found["numbers"], **where).optimizer
    assert found["optimizer"] == pytest.approx(held, rel=0.01)
