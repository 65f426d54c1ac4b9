"""The listening socket of the gateway."""

from __future__ import annotations

import socket

import pytest

from cli.services.http_server import CannotListen, listen


def test_a_connection_to_the_gateway_sends_without_waiting_for_receipts() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CannotListen, match=f"cannot listen on port {port} .*the port is in use"):
            listen("127.0.0.1", port)
