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
from tests.chaos.evidence import collect_evidence, summary, write_violations
from tests.chaos.faults import Chaos
from tests.chaos.load import USER, Load, Submission
from tests.chaos.parts import Servers, running_servers
from tests.chaos.processes import Services, running_services
from tests.chaos.progress import Progress
from tests.chaos.rows import Evidence, Kind, Submitted, Violation
from tests.chaos.watch import STALL_TIMEOUT, Watch


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a run."""

    seed: int
    tasks: int
    faults: int
    violations: list[Violation]
    seconds: float
    summary: str
    """Counts of submissions, tasks, attempts and events, as text."""
    folder: Path
    """Has the faults, the logs and violations.json; deleted if there are no violations."""

    def as_json(self) -> str:
        """The result as one line of JSON."""
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
    """Run once with a progress bar, in a new temporary folder."""
    began, folder = time.monotonic(), Path(mkdtemp(prefix=f"treadle-chaos-{seed}-"))
    with Progress(tasks, faults) as progress:
        evidence, faults_done = await _run(tasks, faults, seed, folder, progress)
    violations = check(evidence)
    if violations:
        write_violations(folder, violations, evidence)
    else:
        await asyncio.to_thread(shutil.rmtree, folder)
    return Verdict(seed, tasks, faults_done, violations, time.monotonic() - began, summary(evidence), folder)


async def _run(tasks: int, faults: int, seed: int, folder: Path, progress: Progress) -> tuple[Evidence, int]:
    """The evidence at the end of the run, and the number of faults."""
    async with running_servers(folder) as servers:
        async with (
            running_services(servers.settings(), folder) as services,
            _users(servers, services, seed) as (load, database),
        ):
            chaos, watch = Chaos(servers, services, seed, folder), Watch(database, load)
            async with asyncio.TaskGroup() as watchers:
                watch_task = watchers.create_task(watch.run(progress, chaos))
                await _attack(chaos, watch, load, tasks, faults)
                watch_task.cancel()
        evidence = await collect_evidence(
            servers.postgres.dsn(),
            servers.rabbitmq.url,
            servers.bucket,
            [_submitted(submission) for submission in load.submissions],
            [*load.surprises, *services.surprises, *services.errors()],
        )
    return evidence, chaos.done


async def _attack(chaos: Chaos, watch: Watch, load: Load, tasks: int, faults: int) -> None:
    """Submit tasks and cause faults at the same time, then wait until all tasks have ended."""
    users: list[asyncio.Task[None]] = []

    async def start_users(number: int) -> None:
        """Start the share of the users that belongs to fault `number`, then wait until few tasks are unfinished."""
        share = range(tasks * number // faults, tasks * (number + 1) // faults)
        users.extend(asyncio.create_task(load.user(task)) for task in share)
        await watch.wait_for_capacity()

    await chaos.run(faults, start_users)
    await _wait_for_answers(users, load)
    await watch.wait_until_finished()


async def _wait_for_answers(users: list[asyncio.Task[None]], load: Load) -> None:
    """Wait until every user has its answers; there are no faults any more, so the time is limited."""
    done, unanswered = await asyncio.wait(users, timeout=STALL_TIMEOUT)
    for user in unanswered:
        user.cancel()
    if unanswered:
        load.surprises.append(f"{len(unanswered)} users had no answer {STALL_TIMEOUT:g} s after the last fault")
    for user in done:
        user.result()


@asynccontextmanager
async def _users(servers: Servers, services: Services, seed: int) -> AsyncIterator[tuple[Load, Database]]:
    """Users with a dataset, and a connection to the database; both use the proxies."""
    settings = servers.settings()
    bus = RabbitMQBus(settings.bus_url.get_secret_value())
    await bus.start()
    database = await Database.open(settings.database_url.get_secret_value())
    load = Load(services.urls, bus, await new_dataset(services.urls[0]), seed)
    try:
        yield load, database
    finally:
        await load.close()
        await database.close()
        await bus.close()


async def new_dataset(url: str) -> str:
    file = {"file": ("rows.csv", b"text,category\nwhere is my card,card_arrival\n", "text/csv")}
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/api/datasets/upload", files=file, data={"name": "rows", "userId": str(USER)})
    return str(answer.raise_for_status().json()["datasetId"])


def _submitted(submission: Submission) -> Submitted:
    return Submitted(
        submission.task_id, submission.acknowledged, frozenset(submission.ends), submission.iterations or 1
    )
