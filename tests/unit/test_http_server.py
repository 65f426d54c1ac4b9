"""The listening socket of the gateway."""

from __future__ import annotations

import socket

import pytest

from cli.services.composition import running
from cli.services.http_server import CannotListen, OpenToOthers, listen, require_loopback
from infra.settings import Settings


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


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_a_loopback_address_may_be_bound(host: str) -> None:
    require_loopback(host, 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "10.0.0.1", "8.8.8.8", "2001:db8::1"])
def test_an_address_that_others_can_reach_is_refused_by_name(host: str) -> None:
    with pytest.raises(OpenToOthers, match="TREADLE_HTTP_OPEN=yes"):
        require_loopback(host, 0)


def test_a_name_of_another_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.1", "192.168.1.5")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(OpenToOthers, match=r"treadle\.example"):
        require_loopback("treadle.example", 0)


def test_a_name_without_an_address_is_named() -> None:
    with pytest.raises(CannotListen, match=r"nowhere\.invalid"):
        require_loopback("nowhere.invalid", 0)


async def test_control_does_not_start_if_others_can_reach_it() -> None:
    with pytest.raises(OpenToOthers):
        async with running(Settings(http_host="0.0.0.0", http_port=0), phases=()):
            pass


@pytest.mark.parametrize("value", ["yes", "true", "1"])
def test_an_open_gateway_is_allowed_by_word(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TREADLE_HTTP_OPEN", value)
    assert Settings().http_open


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_ipv6_address_is_bound() -> None:
    with listen("::1", 0) as listener:
        assert listener.family is socket.AF_INET6


def test_a_client_that_takes_no_data_is_dropped_by_the_system() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
