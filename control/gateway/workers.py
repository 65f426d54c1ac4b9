"""The route that lists the workers."""

from __future__ import annotations

from fastapi import APIRouter

from contracts.workers import WorkerView
from control.gateway.parts import Parts
from control.gateway.routes import GatewayRoute
from control.store.values import WORKER_WINDOW

router = APIRouter(prefix="/api/workers", tags=["workers"], route_class=GatewayRoute)


@router.get("")
async def list_workers(parts: Parts) -> list[WorkerView]:
    """The workers that sent a request in the last minute, by name, at most 1,000; `unfit` says why one does no work."""
    return [WorkerView.model_validate(worker) for worker in await parts.store.workers(WORKER_WINDOW)]
