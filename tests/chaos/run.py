"""One chaos run: servers, services, users and faults together, then the verdict."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import httpx

from infra.bus.rabbitmq import RabbitMQBus
from infra.database import Database
from tests.chaos.checker import check
from tests.chaos.evidence import evidence, keep, summary
from tests.chaos.faults import Chaos
from tests.chaos.load import USER, Load, Submission
from tests.chaos.parts import Parts, parts
from tests.chaos.processes import House, house
from tests.chaos.progress import Progress
from tests.chaos.rows import Evidence, Kind, Submitted, Violation
from tests.chaos.watch import STUCK, Watch


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
            async with asyncio.TaskGroup() as watchers:
                watching = watchers.create_task(watch.run(progress, chaos))
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
    users: list[asyncio.Task[None]] = []

    async def release(number: int) -> None:
        """Let the users come who go with fault `number`, once few enough of their tasks are at work."""
        theirs = range(tasks * number // faults, tasks * (number + 1) // faults)
        users.extend(asyncio.create_task(load.user(task)) for task in theirs)
        await watch.until_few()

    await chaos.run(faults, release)
    await _answered(users, load)
    await watch.until_quiet()


async def _answered(users: list[asyncio.Task[None]], load: Load) -> None:
    """Wait until every user was answered; now that nothing breaks any more, that cannot take long."""
    done, unanswered = await asyncio.wait(users, timeout=STUCK)
    for user in unanswered:
        user.cancel()
    if unanswered:
        load.surprises.append(f"{len(unanswered)} users had no answer {STUCK:g} s after the last fault")
    for user in done:
        user.result()


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
