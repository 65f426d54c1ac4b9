"""Is it alive, is it ready, and what do its numbers say."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from contracts.errors import FieldError
from control.gateway.errors import about, answer
from control.gateway.parts import GatewayParts, Parts

PATIENCE = 5.0
"""Seconds after which a part that does not answer counts as away."""

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", response_model=dict[str, str])
async def ready(request: Request, parts: Parts) -> Response | dict[str, str]:
    """Database, object store and consumers are really there; else 503 with what is not, and why."""
    missing = await _missing(parts)
    if not missing:
        return {"status": "ready"}
    detail = "not ready: " + ", ".join(error.field for error in missing)
    return answer(request, about(HTTPStatus.SERVICE_UNAVAILABLE, detail, *missing))


@router.get("/metrics", response_class=Response)
async def metrics(parts: Parts) -> Response:
    """Prometheus text format."""
    return Response(await parts.metrics(), media_type=CONTENT_TYPE_LATEST)


async def _missing(parts: GatewayParts) -> list[FieldError]:
    try:
        async with asyncio.timeout(PATIENCE):
            found = await parts.readiness()
    except TimeoutError:
        found = {"control": f"its parts did not answer within {PATIENCE:g} seconds"}
    return [FieldError(field=name, message=why) for name, why in found.items()]
