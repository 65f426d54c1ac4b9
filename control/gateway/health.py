"""The routes of liveness, readiness and metrics."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from control.gateway.errors import problem_response, status_problem
from control.gateway.parts import Parts
from control.gateway.readiness import not_ready
from control.gateway.routes import GatewayRoute

router = APIRouter(tags=["health"], route_class=GatewayRoute)


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """The process is alive."""
    return {"status": "alive"}


@router.get("/readyz", response_model=dict[str, str])
async def ready(request: Request, parts: Parts) -> Response | dict[str, str]:
    """Whether database, object store and consumers are ready; if not, 503 with the reason for each."""
    missing = await not_ready(parts)
    if not missing:
        return {"status": "ready"}
    detail = "not ready: " + ", ".join(error.field for error in missing)
    return problem_response(request, status_problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, *missing))


@router.get("/metrics", response_class=Response)
async def metrics(parts: Parts) -> Response:
    """All metrics in Prometheus text format."""
    return Response(await parts.metrics(), media_type=CONTENT_TYPE_LATEST)
