"""Control put together: the parts that are given, and the loops that make it live."""

from __future__ import annotations

from dataclasses import dataclass

from control.applier import Applier
from control.events import EventIntake
from control.intake import SubmissionIntake
from control.leases import LeaseDesk
from control.live import Live
from control.reaper import Reaper
from control.relay import Relay
from control.store.port import Store
from control.submissions import Submissions
from control.sweep import Sweep
from infra.bus.port import Bus, Subscription
from infra.objects import ObjectStore
from infra.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """The outside world as control needs it, opened and started by the composition root."""

    settings: Settings
    bus: Bus
    store: Store
    objects: ObjectStore


class Control:
    """One control process. Any number may run beside one another on the same database and broker."""

    def __init__(self, parts: Parts) -> None:
        settings, bus, store = parts.settings, parts.bus, parts.store
        self.parts = parts
        self.live = Live(bus)
        self.relay = Relay(store, bus)
        self.applier = Applier(store, self.relay, batch_size=settings.batch_size)
        self.submissions = Submissions(store, self.applier, settings)
        self._desk = LeaseDesk(bus, store)
        self._events = EventIntake(bus, self.applier)
        self._intake = SubmissionIntake(bus, self.submissions)
        self._loops = (
            self.relay,
            self.applier,
            self.submissions,
            Reaper(store, self.applier, self._desk, parts.objects, settings),
            Sweep(store, bus, self.relay, settings),
        )
        self._subscriptions: dict[str, Subscription] = {}

    async def start(self) -> None:
        """Begin to relay, apply and consume."""
        self.applier.on_change(lambda change, _: self.live.touch(change.after.task_id))
        for loop in self._loops:
            loop.start()
        await self.live.start()
        self._subscriptions = {
            "events": await self._events.start(),
            "claims": await self._desk.start(),
            "submissions": await self._intake.start(),
        }

    async def stop(self) -> None:
        """Consume no more, then end the loops; what was in hand comes again, here or elsewhere."""
        for subscription in self._subscriptions.values():
            await subscription.cancel()
        await self.live.stop()
        for loop in reversed(self._loops):
            await loop.stop()

    async def readiness(self) -> dict[str, str]:
        """What is not ready, by name, with why; empty: ready."""
        return {
            f"consumer:{name}": "not attached to its queue"
            for name, subscription in self._subscriptions.items()
            if not subscription.attached
        }
