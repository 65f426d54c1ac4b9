"""Uvicorn's HTTP protocol with the limits that it lacks: time for headers and for reading, and connections."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from contracts.errors import FieldError
from control.gateway.errors import MEDIA_TYPE, status_problem
from control.gateway.security_headers import HEADERS, with_security_headers

HEADER_TIMEOUT = 10.0
"""Seconds from the start of a connection, or the first byte of a request, to the end of the request's headers."""
SEND_TIMEOUT = 30.0
"""Seconds in which a client must read enough of an answer that more can be sent."""
UNREAD_BODY_TIMEOUT = 10.0
"""Seconds for which the rest of a body is skipped after its request was refused."""
MAX_CONNECTIONS = 800
"""Connections that are served. Up to RESERVED more are answered with status 503, and others are closed."""
RESERVED = 100
RETRY_AFTER = "5"

log = structlog.get_logger(__name__)


class GatewayProtocol(H11Protocol):
    """One connection."""

    header_timeout = HEADER_TIMEOUT
    send_timeout = SEND_TIMEOUT
    unread_body_timeout = UNREAD_BODY_TIMEOUT
    max_connections = MAX_CONNECTIONS

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # uvicorn's
        super().__init__(*arguments, **named)
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections + RESERVED:
            transport.abort()
        elif len(self.connections) > self.max_connections:
            self.app = _busy
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        for name in list(self._timers):
            self._stop_timer(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle the bytes; the time for headers runs while they are incomplete."""
        super().data_received(data)
        self._await_headers()

    def on_response_complete(self) -> None:
        """Skip the rest of the body for a limited time, so that a client that still sends it can read the answer."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._start_timer("unread body", self.unread_body_timeout, self.transport.abort)

    def pause_writing(self) -> None:
        """Limit the time until the client has read."""
        super().pause_writing()
        self._start_timer("reading", self.send_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that time."""
        super().resume_writing()
        self._stop_timer("reading")

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP with a problem."""
        self._send_problem(HTTPStatus.BAD_REQUEST, "request", f"expected HTTP/1.1 with one Host header: {msg}")

    def _await_headers(self) -> None:
        if self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None:
            self._start_timer("headers", self.header_timeout, self._refuse_slow_headers)
        else:
            self._stop_timer("headers")
        if self.conn.their_state is not h11.SEND_BODY:
            self._stop_timer("unread body")

    def _refuse_slow_headers(self) -> None:
        begun, _ = self.conn.trailing_data
        if not begun:  # browsers open connections before they need them
            self.transport.close()
            return
        log.info("headers_too_slow", client=self.client)
        message = f"the headers did not arrive within {self.header_timeout:g} seconds"
        self._send_problem(HTTPStatus.REQUEST_TIMEOUT, "headers", message)

    def _send_problem(self, status: HTTPStatus, field: str, message: str) -> None:
        """Send a problem outside of a request and its answer, and close the connection."""
        if self.transport.is_closing():
            return
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = status_problem(status, message, FieldError(field=field, message=message)).model_dump_json().encode()
            own = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close"}
            head = h11.Response(status_code=status, headers=list({**HEADERS, **own}.items()), reason=status.phrase)
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _start_timer(self, name: str, seconds: float, action: Any) -> None:  # noqa: ANN401  # a callback
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, action)

    def _stop_timer(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    message = f"this server has {MAX_CONNECTIONS} connections; retry in {RETRY_AFTER} seconds"
    problem = status_problem(HTTPStatus.SERVICE_UNAVAILABLE, message, FieldError(field="connections", message=message))
    headers = {"Retry-After": RETRY_AFTER, "Connection": "close"}
    response = Response(problem.model_dump_json(), problem.status, headers, MEDIA_TYPE)
    await response(scope, receive, with_security_headers(send))
