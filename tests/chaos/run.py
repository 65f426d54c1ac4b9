"""One chaos run: servers, services, users and faults together, then the verdict."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from uuid import UUID

import httpx

from contracts.tasks import TaskStatus
from infra.bus.rabbitmq import RabbitMQBus
from infra.database import Database, DatabaseUnavailable
from tests.chaos.checker import TERMINAL, Evidence, Kind, Submitted, Violation, check
from tests.chaos.evidence import evidence, keep, summary
from tests.chaos.faults import Chaos
from tests.chaos.load import USER, Load, Submission
from tests.chaos.parts import Parts, parts
from tests.chaos.processes import House, house
from tests.chaos.progress import Progress

LOOK = 0.5
BACKLOG = 400
"""Unfinished tasks above which no further fault begins: chaos is to meet tasks at work, not a queue."""
STUCK = 60.0
"""Seconds without any change after the last fault, after which what has not ended never will."""


@dataclass(slots=True)
class Seen:
    """What the database said when it was last asked."""

    counts: Counter[str] = field(default_factory=Counter)
    suspended: list[UUID] = field(default_factory=list)
    outbox: int = 0
    changed: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> int:
        """Tasks that have ended."""
        return sum(self.counts[status] for status in TERMINAL)

    @property
    def unfinished(self) -> int:
        """Tasks under way; one that was never started is not."""
        return self.counts.total() - self.ended - self.counts[TaskStatus.PENDING]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a run."""

    seed: int
    tasks: int
    faults: int
    violations: list[Violation]
    seconds: float
    summary: str
    """What Treadle went through."""
    folder: Path
    """Keeps the faults, the logs, and the rows of what went wrong; gone where nothing did."""

    def as_json(self) -> str:
        """One line for machines."""
        kinds = Counter(violation.kind for violation in self.violations)
        return json.dumps(
            {
                "seed": self.seed,
                "tasks": self.tasks,
                "faults": self.faults,
                "lost": kinds[Kind.LOST],
                "duplicate_transitions": kinds[Kind.DUPLICATE_TRANSITION],
                "stale_writes": kinds[Kind.STALE_WRITE],
                "violations": [str(violation) for violation in self.violations],
                "seconds": round(self.seconds, 1),
            }
        )


class Watch:
    """Looks at the database while the run lasts, and waits for what it finds there."""

    def __init__(self, database: Database, load: Load) -> None:
        self._database = database
        self._load = load
        self._seen = Seen()

    async def run(self, progress: Progress, chaos: Chaos) -> None:
        """Look again and again; a database that is away is no news."""
        while True:
            with suppress(DatabaseUnavailable):
                self._seen = await self._look()
            progress.show(self._seen.ended, chaos.done)
            await asyncio.sleep(LOOK)

    async def until_few(self) -> None:
        """Wait until few enough tasks are at work."""
        while self._seen.unfinished > BACKLOG:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(LOOK)

    async def until_quiet(self) -> None:
        """Wait until every task has ended and the outbox is empty, or nothing moves any more."""
        since = time.monotonic()
        while not self._quiet and time.monotonic() - max(since, self._seen.changed) < STUCK:
            for task_id in self._seen.suspended:
                await self._load.resume(task_id)
            await asyncio.sleep(2 * LOOK)

    @property
    def _quiet(self) -> bool:
        acknowledged = sum(submission.acknowledged for submission in self._load.submissions)
        return not self._seen.unfinished and not self._seen.outbox and self._seen.counts.total() >= acknowledged

    async def _look(self) -> Seen:
        rows = await self._database.fetch("SELECT status, count(*) AS tasks FROM tasks GROUP BY status")
        suspended = await self._database.fetch("SELECT task_id FROM tasks WHERE status = 'SUSPENDED'")
        (waiting,) = await self._database.fetch("SELECT count(*) AS rows FROM outbox")
        counts = Counter({row["status"]: row["tasks"] for row in rows})
        changed = time.monotonic() if counts != self._seen.counts else self._seen.changed
        return Seen(counts, [row["task_id"] for row in suspended], waiting["rows"], changed)


async def run(tasks: int, faults: int, seed: int) -> Verdict:
    """Run once, with a progress bar, in a folder of its own."""
    began, folder = time.monotonic(), Path(mkdtemp(prefix=f"treadle-chaos-{seed}-"))
    with Progress(tasks, faults) as progress:
        found, struck = await _run(tasks, faults, seed, folder, progress)
    violations = check(found)
    if violations:
        keep(folder, violations, found)
    else:
        await asyncio.to_thread(shutil.rmtree, folder)
    return Verdict(seed, tasks, struck, violations, time.monotonic() - began, summary(found), folder)


async def _run(tasks: int, faults: int, seed: int, folder: Path, progress: Progress) -> tuple[Evidence, int]:
    """What was left when all was over, and how many faults there were."""
    async with parts(folder) as servers:
        async with house(servers.settings(), folder) as services, _users(servers, services, seed) as (load, database):
            chaos, watch = Chaos(servers, services, seed, folder), Watch(database, load)
            watching = asyncio.create_task(watch.run(progress, chaos))
            await _attack(chaos, watch, load, tasks, faults)
            watching.cancel()
        found = await evidence(
            servers.postgres.dsn(),
            servers.rabbitmq.url,
            servers.bucket,
            [_submitted(submission) for submission in load.submissions],
            [*load.surprises, *services.surprises, *services.errors()],
        )
    return found, chaos.done


async def _attack(chaos: Chaos, watch: Watch, load: Load, tasks: int, faults: int) -> None:
    """Submit and break together, then wait for the end."""
    async with asyncio.TaskGroup() as users:

        async def release(number: int) -> None:
            """Let the users come who go with fault `number`, once few enough of their tasks are at work."""
            for task in range(tasks * number // faults, tasks * (number + 1) // faults):
                users.create_task(load.user(task))
            await watch.until_few()

        await chaos.run(faults, release)
    await watch.until_quiet()


@asynccontextmanager
async def _users(servers: Parts, services: House, seed: int) -> AsyncIterator[tuple[Load, Database]]:
    """Users with a dataset, and a view of the database; both by way of the proxies."""
    settings = servers.settings()
    bus = RabbitMQBus(settings.bus_url.get_secret_value())
    await bus.start()
    database = await Database.open(settings.database_url.get_secret_value())
    load = Load(services.urls, bus, await _dataset(services.urls[0]), seed)
    try:
        yield load, database
    finally:
        await load.close()
        await database.close()
        await bus.close()


async def _dataset(url: str) -> str:
    file = {"file": ("rows.csv", b"text,category\nwhere is my card,card_arrival\n", "text/csv")}
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/api/datasets/upload", files=file, data={"name": "rows", "userId": str(USER)})
    return str(answer.raise_for_status().json()["datasetId"])


def _submitted(submission: Submission) -> Submitted:
    return Submitted(
        submission.task_id, submission.acknowledged, frozenset(submission.ends), submission.iterations or 1
    )
