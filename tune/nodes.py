"""Nodes of a running Ray, and those that it has not missed yet."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 180.0
"Ray calls a node dead when it has not answered for about a minute."
ANSWER_S = 3.0
"How long a node that is busy may take to accept a connection."


def wait_for_lost_nodes(asked: Callable[[], object]) -> None:
    """Return once every node that Ray counts as alive answers, or `asked()` is true.

    A node that has died is given trials until Ray misses it, and each of them fails at once: three
    times within seconds. Trials on other nodes wait for their answers meanwhile.
    """
    import ray

    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not asked():
        if all(answers(node) for node in ray.nodes() if node["Alive"]):
            return
        time.sleep(1)


def answers(node: dict[str, Any]) -> bool:
    """Whether a node of `ray.nodes()` accepts a connection."""
    try:
        place = node["NodeManagerAddress"], node["NodeManagerPort"]
        socket.create_connection(place, ANSWER_S).close()
    except OSError:
        return False
    return True
