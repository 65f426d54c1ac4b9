"""Asks all parts of control whether they are ready."""

from __future__ import annotations

import asyncio

from contracts.errors import FieldError
from control.gateway.parts import GatewayParts

READINESS_TIMEOUT = 5.0
"""Seconds after which an unfinished readiness check counts as failed; each part has a shorter limit."""


async def not_ready(parts: GatewayParts) -> tuple[FieldError, ...]:
    """The parts that are not ready, each with the reason."""
    try:
        async with asyncio.timeout(READINESS_TIMEOUT):
            reasons = await parts.readiness()
    except TimeoutError:
        reasons = {"control": f"the readiness check did not finish within {READINESS_TIMEOUT:g} seconds"}
    return tuple(FieldError(field=name, message=why) for name, why in reasons.items())
