"""Control put together: the parts that it is given, and the loops that make it live."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from control.apply.applier import Applier, Outcome
from control.apply.relay import Relay
from control.apply.submissions import Submissions
from control.consumers.events import EventIntake
from control.consumers.leases import LeaseDesk
from control.consumers.progress import Live
from control.consumers.submissions.app import PublicSide
from control.machine.task import Task
from control.maintenance.reaper import Reaper
from control.maintenance.retention import Retention
from control.maintenance.sweep import Sweep
from control.store.port import Store, StoreUnavailable
from control.telemetry.gauges import Gauges
from control.telemetry.metrics import Metrics
from control.telemetry.observer import Observer
from control.telemetry.spans import headers_for
from infra.bus.port import Bus, Subscription
from infra.bus.rabbitmq import RabbitMQBus
from infra.objects import ObjectRefused, ObjectStore, ObjectStoreUnavailable
from infra.settings import Settings
from infra.telemetry import Tracing

NOT_ATTACHED = "not attached to its queue"
BROKE = "it broke three times within a minute; the log says why"


@dataclass(frozen=True, slots=True)
class Parts:
    """The outside world as control needs it, opened and started by the composition root."""

    settings: Settings
    bus: Bus
    store: Store
    objects: ObjectStore
    tracing: Tracing


def _untraced(_: Task) -> dict[str, str]:
    """Headers of messages that nobody traces."""
    return {}


class Control:
    """One control process. Any number may run beside one another on the same database and broker."""

    def __init__(self, parts: Parts) -> None:
        settings, bus, store = parts.settings, parts.bus, parts.store
        self.parts = parts
        self.live = Live()
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        self.gauges = Gauges(registry, store, bus)
        relay = Relay(store, bus)
        applier = Applier(
            store, relay, batch_size=settings.batch_size, trace=headers_for if parts.tracing.on else _untraced
        )
        self.submissions = Submissions(store, applier, settings)
        observer = Observer(store, metrics, parts.tracing)
        applier.on_change(observer.heard)
        applier.on_change(lambda change, _: self.live.touch(change.after.task_id))
        applier.on_duplicate(lambda: metrics.count(Outcome.DUPLICATE))
        self._desk = LeaseDesk(bus, store)
        self._events = EventIntake(bus, applier)
        self._public = _public_side(parts, self.submissions) if bus.name == RabbitMQBus.name else None
        self._loops = (
            relay,
            observer,
            applier,
            self.submissions,
            Reaper(store, applier, self._desk, parts.objects, settings),
            Sweep(store, bus, relay, settings),
            Retention(store, parts.objects, settings),
        )
        self._subscriptions: dict[str, Subscription] = {}

    async def start(self) -> None:
        """Begin to relay, apply and consume."""
        for loop in self._loops:
            loop.start()
        self._subscriptions = {
            "progress": await self.live.start(self.parts.bus),
            "claims": await self._desk.start(),
            "events": await self._events.start(),
        }
        if self._public is not None:
            await self._public.start()

    async def stop(self) -> None:
        """Consume no more, then end the loops; what was in hand comes again, here or elsewhere."""
        self.live.close()
        if self._public is not None:
            await self._public.stop()
        for subscription in self._subscriptions.values():
            await subscription.cancel()
        for loop in reversed(self._loops):
            await loop.stop()

    async def readiness(self) -> dict[str, str]:
        """What is not ready, by name, with why. Empty: ready."""
        missing = {
            f"consumer:{name}": NOT_ATTACHED
            for name, subscription in self._subscriptions.items()
            if not subscription.attached
        }
        for task in (task for loop in self._loops for task in loop.tasks if task.failing):
            missing[f"loop:{task.name}"] = BROKE
        if self._public is not None and not await self._public.attached():
            missing["consumer:submissions"] = NOT_ATTACHED
        try:
            await self.parts.store.now()
        except StoreUnavailable as error:
            missing["database"] = str(error)
        try:
            await self.parts.objects.ping()
        except (ObjectStoreUnavailable, ObjectRefused) as error:
            missing["object_store"] = str(error)
        return missing


def _public_side(parts: Parts, submissions: Submissions) -> PublicSide:
    return PublicSide(parts.settings.bus_url.get_secret_value(), parts.bus, submissions, parts.tracing)
