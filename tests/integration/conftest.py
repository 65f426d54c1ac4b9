"""Fixtures of this folder's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from infra.bus.rabbitmq import RabbitMQBus
from tests.gateway import gateway, storing_gateway
from tests.object_store import objects, store_settings

__all__ = ["gateway", "objects", "store_settings", "storing_gateway"]


@pytest_asyncio.fixture
async def bus(bus_url: str) -> AsyncIterator[RabbitMQBus]:
    """A bus on a real broker."""
    bus = RabbitMQBus(bus_url)
    await bus.start()
    yield bus
    await bus.close()
