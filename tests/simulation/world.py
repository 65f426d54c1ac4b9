"""What all simulated processes share: clock, random generator, trace, and the data that outlives a process."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from random import Random

from infra.bus.inprocess_broker import InProcessBroker
from tests.memory_store.tables import Tables
from tests.simulation.process import Process

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN_STEPS = 60
"""The number of last steps that a failure shows."""

CRASH_POINTS = (
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
"""Where a process can be made to crash."""


class Violation(AssertionError):
    """A promise of Treadle was broken."""


class World:
    """One simulation; every choice is drawn from `rng`, so the seed determines every step."""

    def __init__(self, seed: int, loop: asyncio.AbstractEventLoop) -> None:
        self.rng = Random(seed)
        self.tables = Tables()
        self.broker = InProcessBroker()
        self.blobs: dict[str, bytes] = {}
        self.faults_off = False
        """True once no more faults happen and the open work must finish."""
        self.unavailable: set[str] = set()
        """Servers that are away at the moment: `store`, `objects` or `disk`."""
        self.armed_points: set[str] = set()
        """Points at which the next process that reaches them crashes."""
        self.steps: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.violation: asyncio.Future[None] = loop.create_future()
        """Fails with the first violation."""
        self._loop = loop
        self._digest = hashlib.sha256()
        self._last: deque[str] = deque(maxlen=SHOWN_STEPS)

    @property
    def seconds(self) -> float:
        """Virtual seconds since the start."""
        return self._loop.time()

    @property
    def digest(self) -> str:
        """A hash of all steps so far, in order."""
        return self._digest.hexdigest()

    def now(self) -> datetime:
        """The time, the same for all processes."""
        return EPOCH + timedelta(seconds=self.seconds)

    def step(self, kind: str, what: object) -> None:
        """Record one delivered message, applied event, fault or request."""
        line = f"{self.seconds:.6f} {kind} {what}"
        self.steps[kind] += 1
        self._digest.update(line.encode())
        self._last.append(line)

    def fault(self, what: object) -> None:
        """Record a fault as a step."""
        self.step("fault", what)

    def happens(self, probability: float) -> bool:
        """Whether a fault of this probability happens now."""
        return not self.faults_off and self.rng.random() < probability

    def later(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Call it later, outside the context of any process, so that no crash prevents it."""
        self._loop.call_later(seconds, call, *arguments, context=Context())

    async def crash_point(self, name: str, process: Process) -> None:
        """Crash `process` here if the point is armed."""
        if name in self.armed_points and process.may_crash and not self.faults_off:
            self.armed_points.discard(name)
            self.crashes[name] += 1
            self.fault(f"{process.name} crashes {name}")
            await process.crash()

    def check(self, condition: object, message: str) -> None:
        """Raise Violation with `message` if the condition is false."""
        if not condition:
            raise self.fail(message)

    def fail(self, reason: str, cause: BaseException | None = None) -> Violation:
        """End the simulation and return the violation, with the steps before it; only the first one is reported."""
        violation = Violation(f"{reason}\n\nthe last steps:\n" + "\n".join(self._last))
        violation.__cause__ = cause or sys.exception()
        if not self.violation.done():
            self.violation.set_exception(violation)
        return violation
