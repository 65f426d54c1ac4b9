"""The short run: the same chaos as `make chaos`, in the time that `make test` has for it."""

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
        servers.missing("chaos breaks a RabbitMQ of its own, and rabbitmq-server is not installed")
    verdict = await run(TASKS, FAULTS, seed=int(os.environ.get("SEED", "1")))
    assert verdict.faults == FAULTS
    assert not verdict.violations, f"{verdict.as_json()}; {verdict.folder} keeps faults, logs and rows"
