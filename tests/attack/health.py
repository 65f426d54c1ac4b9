"""Whether the stack works: it is ready, its queues are consumed, and a good message of each kind has its effect."""

from __future__ import annotations

import httpx

from contracts.topology import DEAD_QUEUE, QUEUES
from tests.attack.target import RECOVERY, Target, require
from tests.eventually import eventually


async def check(target: Target) -> None:
    """Raise AssertionError with what stands still, if something does not work within RECOVERY seconds."""
    await eventually(lambda: _ready(target), "every gateway to be ready", RECOVERY)
    task = await target.submit()
    state = await target.ended(task)
    require(state["status"] == "COMPLETED", f"a good task ended {state['status']}: {state.get('message')}")
    await eventually(lambda: _drained(target), "the queues to be empty", RECOVERY)


async def _ready(target: Target) -> bool:
    async with httpx.AsyncClient(timeout=10) as client:
        try:
            return all([(await client.get(f"{url}/readyz")).is_success for url in target.services.urls])
        except httpx.TransportError:
            return False


async def _drained(target: Target) -> bool:
    depths = [await target.bus.depth(queue.name) for queue in QUEUES if queue is not DEAD_QUEUE]
    return not any(depths)
