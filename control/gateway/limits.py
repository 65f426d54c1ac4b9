"""How much a request may hold, and of which content type it must be."""

from __future__ import annotations

from collections.abc import Set
from http import HTTPStatus

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import FieldError
from control.gateway.problems import Refused, about, answer

LARGEST_BODY = 2**20
"""Bytes of a JSON body, which is held in memory whole."""
_TOO_LARGE = f"expected at most {LARGEST_BODY} bytes"


class BodyLimit:
    """Refuses bodies that would not fit in memory, except on paths that stream theirs."""

    def __init__(self, app: ASGIApp, *, unlimited: Set[str]) -> None:
        self._app = app
        self._unlimited = unlimited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted."""
        if scope["type"] != "http" or scope["path"] in self._unlimited:
            await self._app(scope, receive, send)
        elif _declared(Request(scope)) > LARGEST_BODY:
            problem = about(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE, FieldError(field="body", message=_TOO_LARGE)
            )
            await answer(Request(scope), problem)(scope, receive, send)
        else:
            await self._app(scope, _Counted(receive), send)


class _Counted:
    """A `receive` that raises once a body without a length turns out to be too large."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._seen = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > LARGEST_BODY:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
        return message


async def json_only(request: Request) -> None:
    """A dependency (async, or it would be called in a thread): a body, where there is one, must say that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = _declared(request) > 0 or "transfer-encoding" in request.headers
    if has_body and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type", f"expected application/json, got {kind or 'none'}"
        )


def _declared(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0
