"""Free ports of the loopback interface, and a check whether a port accepts connections."""

from __future__ import annotations

import socket
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """`count` different free ports; all sockets stay open until every port is chosen."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind((LOOPBACK, 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def free_port() -> int:
    """One free port."""
    return free_ports(1)[0]


def accepts(port: int, hello: bytes = b"", *, timeout: float = 1.0) -> bool:
    """Whether a server on `port` accepts a connection and, if `hello` is given, replies to it; `timeout` in seconds."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout) as connection:
            connection.sendall(hello)
            return not hello or bool(connection.recv(1))
    except OSError:
        return False
