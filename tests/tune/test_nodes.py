"""Nodes that Ray has not missed yet."""

from __future__ import annotations

import socket

import pytest

pytest.importorskip("ray", reason="pip install norface[tune]")

from tune import nodes


def test_a_node_answers_while_somebody_listens_at_its_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        node = {"NodeManagerAddress": "127.0.0.1", "NodeManagerPort": server.getsockname()[1]}
        assert nodes.answers(node)
    assert not nodes.answers(node)


def test_waiting_ends_when_ray_misses_the_node_or_somebody_asks(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    told = [True, True, False]
    monkeypatch.setattr(
        "ray.nodes",
        lambda: [
            {"Alive": told.pop(0), "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}
        ],
    )
    nodes.wait_for_lost_nodes(lambda: False)
    assert told == []
    # Whoever asks is not kept: Ray, which would have nothing to say, is not looked at.
    nodes.wait_for_lost_nodes(lambda: True)
