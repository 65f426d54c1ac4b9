"""Creates the bus that the settings name; imports only the adapter that is used."""

from __future__ import annotations

from infra.bus.port import Bus
from infra.settings import IN_PROCESS, Settings


def connect(settings: Settings) -> Bus:
    """A bus that is not started yet.

    For `in-process` each call returns a separate bus, so all services of a process must share one.
    """
    url = settings.bus_url.get_secret_value()
    if url == IN_PROCESS:
        from infra.bus.inprocess import InProcessBus

        return InProcessBus()
    from infra.bus.rabbitmq import RabbitMQBus

    return RabbitMQBus(url)
