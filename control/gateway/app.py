"""Builds the HTTP gateway as one FastAPI application."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import Message, Receive, Scope, Send

from contracts.errors import FieldError
from control.gateway import checks, datasets, docs, documents, files, health, logs, progress, tasks, traces, workers
from control.gateway import errors as problems
from control.gateway.body_clock import BodyClock
from control.gateway.origins import OriginPolicy, Refusal
from control.gateway.parts import GatewayParts
from control.gateway.responses import EVERYWHERE, operation_id, with_problem_schema
from control.gateway.responses import problems as problem_responses
from control.gateway.security_headers import with_security_headers

ROUTERS = (
    tasks.router,
    progress.router,
    traces.router,
    logs.router,
    checks.router,
    datasets.uploads,
    datasets.router,
    files.router,
    workers.router,
    health.router,
    documents.router,
    docs.router,
)
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class GatewayApp(FastAPI):
    """FastAPI behind the checks of origin and time, with security headers on every answer."""

    def __init__(self, parts: GatewayParts, **options: Any) -> None:  # noqa: ANN401  # FastAPI's options
        super().__init__(**options)
        self.state.parts = parts

    @cached_property
    def _origins(self) -> OriginPolicy:
        parts: GatewayParts = self.state.parts
        return OriginPolicy(parts.allowed_hosts, parts.bound_host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        send = with_security_headers(send)
        refusal = _two_lengths(scope) or self._origins.refusal(scope)
        if refusal is not None:
            error = FieldError(field=refusal.field, message=refusal.message)
            problem = problems.status_problem(refusal.status, f"{refusal.field}: {refusal.message}", error)
            close = {"Connection": "close"} if refusal.status is HTTPStatus.BAD_REQUEST else None
            await problems.problem_response(Request(scope), problem, close)(scope, receive, send)
            return
        limits = self.state.parts.limits
        clock = BodyClock(receive, send, wait=limits.body_wait, rate=limits.body_rate)
        await super().__call__(scope, clock.receive, _with_problem_413(scope, receive, clock.send))

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            self.openapi_schema = with_problem_schema(super().openapi())
        return self.openapi_schema


def build_app(parts: GatewayParts, lifespan: Lifespan | None = None) -> FastAPI:
    """The gateway; `lifespan` starts and stops its parts, or the caller does if it is None."""
    app = GatewayApp(
        parts,
        title="Treadle",
        version=version("treadle"),
        summary="A closed loop that makes language models better.",
        lifespan=lifespan,
        responses=problem_responses(*EVERYWHERE),
        max_body_size=problems.LARGEST_BODY,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        docs_url=None,
        redoc_url=None,
    )
    for router in ROUTERS:
        app.include_router(router)
    problems.install_error_handlers(app)
    return app


def _two_lengths(scope: Scope) -> Refusal | None:
    """The refusal of a request with both lengths: a proxy before this server may take the other one as true."""
    if not {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
        return None
    message = "expected it or Transfer-Encoding, got both"
    return Refusal(HTTPStatus.BAD_REQUEST, "Content-Length", message)


def _with_problem_413(scope: Scope, receive: Receive, send: Send) -> Send:
    """A `send` that replaces the plain text with which Starlette refuses a too large `Content-Length`."""
    refused = False

    async def send_problem(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start" and message["status"] == problems.TOO_LARGE:
            refused = (b"content-type", b"text/plain; charset=utf-8") in message["headers"]
            if refused:
                await problems.too_large(Request(scope))(scope, receive, send)
        if not refused:
            await send(message)

    return send_problem
