"""Which bus the settings name. The adapter is imported only when it is the one."""

from __future__ import annotations

from infra.bus.port import Bus
from infra.settings import IN_PROCESS, Settings


def connect(settings: Settings) -> Bus:
    """A bus, not started yet. `in-process` gives a new one each time: share it between the services of a process."""
    url = settings.bus_url.get_secret_value()
    if url == IN_PROCESS:
        from infra.bus.inprocess import InProcessBus

        return InProcessBus()
    from infra.bus.rabbitmq import RabbitMQBus

    return RabbitMQBus(url)
