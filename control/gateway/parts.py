"""What the gateway is made of, and how a router gets at it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from control.apply.submissions import Submissions
from control.consumers.progress import Live
from control.store.port import Store
from infra.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """Everything the routes use, opened and started by the composition root."""

    store: Store
    submissions: Submissions
    objects: ObjectStore
    live: Live
    metrics: Callable[[], Awaitable[bytes]]
    """All metrics in Prometheus text format."""
    readiness: Callable[[], Awaitable[Mapping[str, str]]]
    """What is not ready (database, object store, consumers), by name, with why; empty: ready."""
    upload_limit: int = 100 * 2**30
    """Bytes of one uploaded file."""


async def _of(request: Request) -> GatewayParts:  # async: a plain function would be called in a thread
    parts: GatewayParts = request.app.state.parts
    return parts


Parts = Annotated[GatewayParts, Depends(_of)]
