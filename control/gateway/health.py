"""The routes of liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from contracts.errors import FieldError
from control.gateway.errors import problem_response, status_problem
from control.gateway.parts import GatewayParts, Parts

READINESS_TIMEOUT = 5.0
"""Seconds after which an unfinished readiness check counts as failed."""

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """The process is alive."""
    return {"status": "alive"}


@router.get("/readyz", response_model=dict[str, str])
async def ready(request: Request, parts: Parts) -> Response | dict[str, str]:
    """Whether database, object store and consumers are ready; if not, 503 with the reason for each."""
    not_ready = await _not_ready(parts)
    if not not_ready:
        return {"status": "ready"}
    detail = "not ready: " + ", ".join(error.field for error in not_ready)
    return problem_response(request, status_problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, *not_ready))


@router.get("/metrics", response_class=Response)
async def metrics(parts: Parts) -> Response:
    """All metrics in Prometheus text format."""
    return Response(await parts.metrics(), media_type=CONTENT_TYPE_LATEST)


async def _not_ready(parts: GatewayParts) -> list[FieldError]:
    try:
        async with asyncio.timeout(READINESS_TIMEOUT):
            reasons = await parts.readiness()
    except TimeoutError:
        reasons = {"control": f"the readiness check did not finish within {READINESS_TIMEOUT:g} seconds"}
    return [FieldError(field=name, message=why) for name, why in reasons.items()]
