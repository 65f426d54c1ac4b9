"""How much a request may hold, and of which content type it must be."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Request

from control.gateway.errors import Refused

LARGEST_UPLOAD = 2**40
"""Bytes of an upload, which is streamed. How large its file may be is a setting of the gateway."""


async def json_only(request: Request) -> None:
    """A dependency (async, or it would be called in a thread): a body, if there is one, must say that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if has_body and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type", f"expected application/json, got {kind or 'none'}"
        )
