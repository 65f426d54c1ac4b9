"""The parts that the routes use, and the dependency that provides them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from control.apply.submissions import Submissions
from control.consumers.progress_hub import ProgressHub
from control.gateway.limits import Capacity, Limits
from control.gateway.row_checks import RowChecks
from control.store.port import Store
from infra.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """Everything the routes use, opened and started by the composition root."""

    store: Store
    submissions: Submissions
    objects: ObjectStore
    progress_hub: ProgressHub
    metrics: Callable[[], Awaitable[bytes]]
    """All metrics in Prometheus text format."""
    row_checks: RowChecks
    readiness: Callable[[], Awaitable[Mapping[str, str]]]
    """The parts that are not ready (such as the database), by name, with the reason; empty if all are ready."""
    capacity: Capacity = field(default_factory=Capacity)
    allowed_hosts: tuple[str, ...] = ()
    """Names as which this gateway answers, besides loopback names and the address of a connection."""
    bound_host: str = ""
    """The name or address at which it listens, as which it answers too."""

    @property
    def limits(self) -> Limits:
        """The limits of this gateway."""
        return self.capacity.limits


async def _parts(request: Request) -> GatewayParts:  # async: FastAPI calls a plain function in a thread
    parts: GatewayParts = request.app.state.parts
    return parts


Parts = Annotated[GatewayParts, Depends(_parts)]
