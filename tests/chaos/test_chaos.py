"""A short chaos run as a test; `make chaos` has the full size."""

from __future__ import annotations

import os

import pytest

from infra.stack.rabbitmq import rabbitmq_script
from tests import servers
from tests.chaos.run import run

TASKS, FAULTS = 300, 24


@pytest.mark.slow
async def test_nothing_is_lost_whatever_breaks() -> None:
    if rabbitmq_script("rabbitmq-server") is None:
        servers.missing("chaos needs a private RabbitMQ node, and rabbitmq-server is not installed")
    verdict = await run(TASKS, FAULTS, seed=int(os.environ.get("SEED", "1")))
    assert verdict.faults == FAULTS
    assert not verdict.violations, f"{verdict.as_json()}; {verdict.folder} contains faults, logs and rows"
