"""One control process: its resources, its consumers and its background loops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from control.apply.applier import Applier
from control.apply.relay import Relay
from control.apply.submissions import Submissions
from control.consumers.claims_probe import why_claims_are_unanswered
from control.consumers.event_consumer import EventConsumer
from control.consumers.lease_server import LeaseServer
from control.consumers.progress_hub import ProgressHub
from control.consumers.submissions.app import SubmissionConsumer
from control.maintenance.reaper import Reaper
from control.maintenance.retention import Retention
from control.maintenance.sweep import Sweep
from control.store.port import Store, StoreUnavailable
from control.telemetry.change_tracer import ChangeTracer
from control.telemetry.gauges import Gauges
from control.telemetry.metrics import Metrics
from control.telemetry.spans import headers_for
from infra.bus.port import Bus, BusUnavailable, Subscription
from infra.bus.rabbitmq import RabbitMQBus
from infra.objects import ObjectRefused, ObjectStore, ObjectStoreUnavailable
from infra.settings import Settings
from infra.telemetry import Tracing

BROKER_TIMEOUT = 3.0
"""Seconds for the checks of the broker, of which a claim that is not answered takes two."""
NOT_ATTACHED = "not attached to its queue"
CHECK_TIMEOUT = 3.0
"""Seconds after which a part that has not answered is not ready."""
LOOP_FAILING = "failed three times within a minute; see the errors loop_failed and loop_ended in the log of control"


@dataclass(frozen=True, slots=True)
class ControlParts:
    """The resources of a control process, opened and started by the composition root."""

    settings: Settings
    bus: Bus
    store: Store
    objects: ObjectStore
    tracing: Tracing


class Control:
    """One control process; any number of them may share one database and broker."""

    def __init__(self, parts: ControlParts) -> None:
        settings, bus, store = parts.settings, parts.bus, parts.store
        self.parts = parts
        self.progress_hub = ProgressHub()
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        self.gauges = Gauges(registry, store, bus)
        relay = Relay(store, bus)
        trace = headers_for if parts.tracing.on else None
        applier = Applier(store, relay, batch_size=settings.batch_size, trace=trace)
        self.submissions = Submissions(store, applier, settings)
        change_tracer = ChangeTracer(store, parts.tracing)
        applier.on_change(metrics.on_change)
        applier.on_change(self.progress_hub.on_change)
        if parts.tracing.on:
            applier.on_change(change_tracer.on_change)
        applier.on_unchanged(metrics.count)
        self._lease_server = LeaseServer(bus, store)
        self._events = EventConsumer(bus, applier)
        self._submission_consumer = (
            _submission_consumer_of(parts, self.submissions) if bus.name == RabbitMQBus.name else None
        )
        self._loops = (
            relay,
            change_tracer,
            applier,
            self.submissions,
            Reaper(store, applier, self._lease_server, parts.objects, settings),
            Sweep(store, bus, relay, settings),
            Retention(store, parts.objects, settings),
        )
        self._subscriptions: dict[str, Subscription] = {}

    async def start(self) -> None:
        """Start the loops, then the consumers."""
        for loop in self._loops:
            loop.start()
        self._subscriptions = {
            "progress": await self.progress_hub.start(self.parts.bus),
            "claims": await self._lease_server.start(),
            "events": await self._events.start(),
        }
        if self._submission_consumer is not None:
            await self._submission_consumer.start()

    async def stop(self) -> None:
        """Stop the consumers, then the loops; an unacknowledged delivery comes again, to this or to another process."""
        self.progress_hub.close()
        if self._submission_consumer is not None:
            await self._submission_consumer.stop()
        for subscription in self._subscriptions.values():
            await subscription.cancel()
        for loop in reversed(self._loops):
            await loop.stop()

    async def readiness(self) -> dict[str, str]:
        """The reason for each part that is not ready, by its name; empty if all are ready."""
        missing = {
            f"consumer:{name}": NOT_ATTACHED
            for name, subscription in self._subscriptions.items()
            if not subscription.attached
        }
        for task in (task for loop in self._loops for task in loop.tasks if task.failing):
            missing[f"loop:{task.name}"] = LOOP_FAILING
        checks: dict[str, Coroutine[Any, Any, object]] = {
            "database": self.parts.store.now(),
            "object_store": self.parts.objects.ping(),
        }
        if self._submission_consumer is not None:
            checks["consumer:submissions"] = self._submission_consumer.attached()
        reasons, at_broker = await asyncio.gather(
            asyncio.gather(*(_reason_if_not_ready(check) for check in checks.values())), self._bus_problems()
        )
        found = {name: reason for name, reason in zip(checks, reasons, strict=True) if reason is not None}
        return missing | at_broker | found

    async def _bus_problems(self) -> dict[str, str]:
        """What is missing at the broker, and why claims are not answered."""
        try:
            async with asyncio.timeout(BROKER_TIMEOUT):
                missing, unanswered = await asyncio.gather(
                    self.parts.bus.missing(), why_claims_are_unanswered(self.parts.bus)
                )
        except BusUnavailable as error:
            return {"broker": str(error)}
        except TimeoutError:
            return {"broker": f"it did not answer within {BROKER_TIMEOUT:g} seconds"}
        return dict(missing) | ({"claims": unanswered} if unanswered else {})


async def _reason_if_not_ready(check: Coroutine[Any, Any, object]) -> str | None:
    """Why a check fails, or None. It is not awaited longer than CHECK_TIMEOUT, not even for its cleanup."""
    checking = asyncio.create_task(check)
    await asyncio.wait({checking}, timeout=CHECK_TIMEOUT)
    if not checking.done():
        checking.cancel()
        return f"no answer within {CHECK_TIMEOUT:g} seconds"
    try:
        return NOT_ATTACHED if checking.result() is False else None
    except (StoreUnavailable, ObjectStoreUnavailable, ObjectRefused) as error:
        return str(error)


def _submission_consumer_of(parts: ControlParts, submissions: Submissions) -> SubmissionConsumer:
    settings = parts.settings
    return SubmissionConsumer(
        settings.bus_url.get_secret_value(), parts.bus, submissions, parts.tracing, accounts=settings.bus_accounts
    )
