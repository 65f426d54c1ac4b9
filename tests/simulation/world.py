"""What all simulated processes share: time, chance, the trace of what happened, and the parts that outlive them."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from random import Random

from infra.bus.inprocess_broker import MemoryBroker
from tests.memory_store.tables import Tables
from tests.simulation.process import Process

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LAST_EVENTS = 60
"""Steps that a failure shows."""

POINTS = (
    "before-commit",
    "after-commit-before-publish",
    "after-lease-before-reply",
    "after-claim-before-ack",
    "after-apply-before-ack",
    "after-answer-before-ack",
    "after-publish-before-confirm",
    "after-work-before-publish",
    "mid-upload",
    "mid-checkpoint",
    "after-upload-before-event",
    "program-running",
)
"""Where a process may be told to die."""


class Violation(AssertionError):
    """Something that Treadle promises did not hold."""


class World:
    """One simulation. Every choice is drawn from `chance`, so its seed decides all that happens."""

    def __init__(self, seed: int, loop: asyncio.AbstractEventLoop) -> None:
        self.chance = Random(seed)
        self.tables = Tables()
        self.broker = MemoryBroker()
        self.blobs: dict[str, bytes] = {}
        self.calm = False
        """No more faults: what is left undone must now come to its end."""
        self.away: set[str] = set()
        """Parts that do not answer at the moment."""
        self.armed: set[str] = set()
        """Points at which the next process that comes by dies."""
        self.steps: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.broken: asyncio.Future[None] = loop.create_future()
        """Ends with the first violation."""
        self._loop = loop
        self._digest = hashlib.sha256()
        self._last: deque[str] = deque(maxlen=LAST_EVENTS)

    @property
    def seconds(self) -> float:
        """Virtual seconds since the start."""
        return self._loop.time()

    @property
    def digest(self) -> str:
        """Stands for every step so far and their order."""
        return self._digest.hexdigest()

    def now(self) -> datetime:
        """The one clock of all machines."""
        return EPOCH + timedelta(seconds=self.seconds)

    def step(self, kind: str, what: object) -> None:
        """One delivered message, applied event, fault or request."""
        line = f"{self.seconds:.6f} {kind} {what}"
        self.steps[kind] += 1
        self._digest.update(line.encode())
        self._last.append(line)

    def fault(self, what: object) -> None:
        """A step of the adversary."""
        self.step("fault", what)

    def happens(self, probability: float) -> bool:
        """Whether something that may go wrong does so now."""
        return not self.calm and self.chance.random() < probability

    def later(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Do it in no process's name, so that it is done whoever dies meanwhile."""
        self._loop.call_later(seconds, call, *arguments, context=Context())

    async def point(self, name: str, process: Process) -> None:
        """A place where `process` may have been told to die."""
        if name in self.armed and process.mortal and not self.calm:
            self.armed.discard(name)
            self.crashes[name] += 1
            self.fault(f"{process.name} dies {name}")
            await process.crash()

    def demand(self, holds: object, otherwise: str) -> None:
        """Raise Violation where a promise does not hold."""
        if not holds:
            raise self.break_off(otherwise)

    def break_off(self, why: str, cause: BaseException | None = None) -> Violation:
        """End the simulation. The first violation counts; it is told with the steps before it."""
        violation = Violation(f"{why}\n\nthe last steps:\n" + "\n".join(self._last))
        violation.__cause__ = cause or sys.exception()
        if not self.broken.done():
            self.broken.set_exception(violation)
        return violation
