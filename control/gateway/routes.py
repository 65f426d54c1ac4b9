"""The class of all routes: it checks what FastAPI does not, and limits the time for an answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from control.gateway.errors import NotAnswered, RequestRejected
from control.gateway.json_bodies import read_json
from control.gateway.parts import GatewayParts
from control.gateway.readiness import not_ready

SINGLE_HEADERS = ("Content-Type", "Content-Encoding", "Idempotency-Key", "Last-Event-ID", "Range")
"""Headers of which FastAPI would read only the first."""


class GatewayRoute(APIRoute):
    """A route whose JSON body is read strictly, and whose parts have `Limits.answer` seconds to answer."""

    limited = True

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler with the checks before it."""
        handle, has_body, limited = super().get_route_handler(), self.body_field is not None, self.limited

        async def checked(request: Request) -> Response:
            _require_single_values(request)
            _require_no_encoding(request)
            if has_body:
                await _read_body(request)
            if not limited:
                return await handle(request)
            async with answering(request):
                return await handle(request)

        return checked


class LongRoute(GatewayRoute):
    """A route that limits its time itself, because it takes longer."""

    limited = False


@asynccontextmanager
async def answering(request: Request) -> AsyncIterator[None]:
    """Raise NotAnswered, which names the parts that are not ready, if the block takes longer than `Limits.answer`."""
    parts: GatewayParts = request.app.state.parts
    try:
        async with asyncio.timeout(parts.limits.answer):
            yield
    except TimeoutError as error:
        raise NotAnswered(parts.limits.answer, await not_ready(parts)) from error


async def _read_body(request: Request) -> None:
    """Parse the body. Raises RequestRejected if it is not JSON."""
    body = await request.body()
    if not body:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        message = f"expected application/json, got {kind[:100] or 'none'}"
        raise RequestRejected(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type", message)
    request._json = read_json(body)  # Starlette's own cache, which FastAPI reads


def _require_single_values(request: Request) -> None:
    """Raise RequestRejected for a second value, of which FastAPI would drop one in silence."""
    queries = Counter(name for name, _ in request.query_params.multi_items())
    headers = {name: len(request.headers.getlist(name)) for name in SINGLE_HEADERS}
    for name, number in (queries | Counter(headers)).items():
        if number > 1:
            raise RequestRejected(HTTPStatus.UNPROCESSABLE_ENTITY, name, f"expected one value, got {number}")


def _require_no_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        message = f"expected a body that is not encoded, got {encoding[:100]!r}; send it as it is"
        raise RequestRejected(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding", message)
