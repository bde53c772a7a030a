"""Bytes that a process has sent through its TCP connections, as the kernel counts them (Linux)."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

BYTES_SENT = 200
"Where `tcpi_bytes_sent` (64 bits) lies in Linux's struct tcp_info (include/uapi/linux/tcp.h)."


def bytes_sent() -> int:
    """Sum over the TCP connections that are open now."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                if one.type == socket.SOCK_STREAM and one.family != socket.AF_UNIX:
                    told = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    total += struct.unpack_from("=Q", told, BYTES_SENT)[0]
    return total
