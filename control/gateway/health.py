"""Is it alive, is it ready, and what do its numbers say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from contracts.errors import FieldError, TreadleError
from control.gateway.parts import GatewayParts, Parts
from control.gateway.problems import about, answer

PATIENCE = 2.0
"""Seconds that a part may take to answer before it counts as away."""

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
    return Response(await parts.metrics.render(parts.store), media_type=CONTENT_TYPE_LATEST)


async def _missing(parts: GatewayParts) -> list[FieldError]:
    database, objects = await asyncio.gather(_wrong(parts.store.now()), _wrong(parts.objects.ping()))
    found = {"database": database, "objectStore": objects, **await parts.readiness()}
    return [FieldError(field=name, message=why) for name, why in found.items() if why is not None]


async def _wrong(probe: Awaitable[object]) -> str | None:
    """Why a part does not answer; None: it does."""
    try:
        async with asyncio.timeout(PATIENCE):
            await probe
    except TreadleError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {PATIENCE:g} seconds"
    return None
