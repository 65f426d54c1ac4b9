"""The worker host on a real broker, with tests that the in-process bus does not allow."""

from collections.abc import AsyncIterator

import pytest

from contracts.leases import LeaseVerdict
from infra.bus.rabbitmq import RabbitMQBus
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.host import WorkerHost
from tests import servers
from tests.fake_control import FakeControl, Script


@pytest.fixture
async def buses(bus_url: str) -> AsyncIterator[tuple[RabbitMQBus, RabbitMQBus]]:
    """The bus of control and the bus of the worker."""
    buses = RabbitMQBus(bus_url), RabbitMQBus(bus_url)
    for bus in buses:
        await bus.start()
    yield buses
    for bus in buses:
        await bus.close()


@pytest.fixture
async def control(buses: tuple[RabbitMQBus, RabbitMQBus]) -> FakeControl:
    control = FakeControl(buses[0])
    await control.start()
    return control


@pytest.fixture
async def host(
    buses: tuple[RabbitMQBus, RabbitMQBus], script: Script, objects: ObjectStore, worker_settings: Settings
) -> AsyncIterator[WorkerHost]:
    settings = worker_settings.model_copy(update={"worker_slots": 2})
    host = WorkerHost(script.worker, buses[1], objects, settings)
    await host.start()
    yield host
    await host.stop()


@pytest.mark.usefixtures("host")
async def test_more_commands_than_slots_are_run_once_each(control: FakeControl, script: Script) -> None:
    commands = [script.command("write") for _ in range(5)]
    for command in commands:
        await control.order(command)
    await control.until(lambda: len(control.events) == len(commands))
    assert {event.key for event in control.events} == {command.key for command in commands}
    assert len(control.claims) == len(commands)


@pytest.mark.usefixtures("host")
async def test_a_job_continues_during_a_restart_of_the_broker(
    control: FakeControl, script: Script, rabbitmq: servers.Broker
) -> None:
    if rabbitmq.node is None:
        servers.missing("the tests cannot restart a broker that was given by its address")
        return
    command = script.command("wait_for_stop")
    await control.order(command)
    await control.until(lambda: control.beats)
    await rabbitmq.node.stop_app()
    await rabbitmq.node.start_app()
    received = len(control.beats)
    await control.until(lambda: len(control.beats) > received)
    control.heartbeat_verdict = LeaseVerdict.PAUSE
    await control.until(lambda: control.events)
    assert (control.events[0].kind, control.events[0].claim_id) == (
        "phase_paused",
        control.claims[0].claim_id,
    )
