"""One run: the stack, honest users, one abuse after the other, and after each the question whether all still works."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import SubprocessError
from tempfile import mkdtemp

import httpx
from aio_pika.exceptions import AMQPError

from contracts.errors import TreadleError
from infra.bus.rabbitmq import RabbitMQBus
from infra.database import Database
from tests.attack import health
from tests.attack.fuzz import Prepared
from tests.attack.target import Target
from tests.chaos.checker import check
from tests.chaos.evidence import collect_evidence
from tests.chaos.load import Load
from tests.chaos.parts import Servers, running_servers
from tests.chaos.processes import Services, running_services
from tests.chaos.rows import Kind, Submitted
from tests.chaos.run import new_dataset
from tests.eventually import eventually

Abuse = Callable[[Target], Awaitable[int]]
"""Tries something, returns the number of inputs that it sent, and raises AssertionError if a promise is broken."""
Classes = Mapping[str, Sequence[Abuse]]
FAILURES = (AssertionError, OSError, TimeoutError, SubprocessError, httpx.HTTPError, AMQPError, TreadleError)
"""What an abuse raises if a promise is broken or a part does not answer."""
HONEST_TASKS = 10
"""Tasks that honest users submit while each abuse goes on."""
FINISH = 120.0
"""Seconds in which the honest tasks must end after the last abuse."""
UNFINISHED = """
SELECT (SELECT count(*) FROM outbox)
     + (SELECT count(*) FROM tasks WHERE status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'PENDING')) AS rows
"""
LOSSES = frozenset(
    {Kind.LOST, Kind.WRONG_END, Kind.DUPLICATE_TRANSITION, Kind.VERSION_GAP, Kind.COMMAND, Kind.OUTBOX, Kind.ARTIFACT}
)
"""What an abuse must not cause; stale events and dead letters are its expected traces."""


@dataclass
class Verdict:
    """What was tried, what stood still, which promises were broken and what was lost."""

    seed: int
    abuses: Counter[str] = field(default_factory=Counter)
    inputs: Counter[str] = field(default_factory=Counter)
    stood_still: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    honest_tasks: int = 0
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether anything stood still, was broken or was lost."""
        return bool(self.stood_still or self.broken or self.lost)

    def as_json(self) -> str:
        """The verdict as one line of JSON."""
        classes = {name: {"abuses": count, "inputs": self.inputs[name]} for name, count in self.abuses.items()}
        return json.dumps(
            {
                "seed": self.seed,
                "tried": classes,
                "inputs": self.inputs.total(),
                "honest_tasks": self.honest_tasks,
                "stood_still": self.stood_still,
                "broken": self.broken,
                "lost": self.lost,
                "seconds": round(self.seconds, 1),
            }
        )


async def run(classes: Classes, size: int, seed: int, hostile: Prepared) -> Verdict:
    """Run every abuse of `classes` in a new temporary folder, which stays if the verdict is bad."""
    began, folder = time.monotonic(), Path(mkdtemp(prefix=f"treadle-attack-{seed}-"))
    verdict = Verdict(seed)
    async with running_servers(folder) as servers:
        async with (
            running_services(servers.settings(), folder) as services,
            _target(servers, services, size, seed, hostile) as (
                target,
                load,
            ),
        ):
            await health.check(target)
            for name, abuses in classes.items():
                for abuse in abuses:
                    await _try(name, abuse, target, load, verdict)
            await _finish(target, load, verdict)
        verdict.lost = await _losses(servers, load, services)
    verdict.honest_tasks = len(load.submissions)
    verdict.seconds = time.monotonic() - began
    if verdict.failed:
        print(f"{folder} has the logs", file=sys.stderr)
    else:
        await asyncio.to_thread(shutil.rmtree, folder)
    return verdict


async def _try(kind: str, abuse: Abuse, target: Target, load: Load, verdict: Verdict) -> None:
    """Try one abuse beside honest users, then check that everything works."""
    title, began = f"{kind}: {abuse.__name__.replace('_', ' ')}", time.monotonic()
    start = len(load.submissions)
    users = [asyncio.create_task(load.user(start + number)) for number in range(HONEST_TASKS)]
    verdict.abuses[kind] += 1
    try:
        verdict.inputs[kind] += await abuse(target)
    except FAILURES as error:
        verdict.broken.append(f"{title}: {error or type(error).__name__}")
    try:
        await health.check(target)
        await asyncio.wait_for(asyncio.gather(*users), 60)
    except FAILURES as error:
        verdict.stood_still.append(f"{title}: {error or type(error).__name__}")
    said = "held" if not any(title in text for text in (*verdict.broken, *verdict.stood_still)) else "BROKEN"
    print(f"{time.monotonic() - began:6.1f} s  {said:6}  {title}", file=sys.stderr, flush=True)


async def _finish(target: Target, load: Load, verdict: Verdict) -> None:
    """Wait until the honest tasks have ended; tasks whose resume came before their pause are resumed again."""

    async def ended() -> bool:
        for row in await target.database.fetch("SELECT task_id FROM tasks WHERE status = 'SUSPENDED'"):
            await load.resume(row["task_id"])
        (row,) = await target.database.fetch(UNFINISHED)
        return not row["rows"]

    try:
        await eventually(ended, "all tasks to end", FINISH)
    except AssertionError as error:
        verdict.stood_still.append(str(error))


@asynccontextmanager
async def _target(
    servers: Servers, services: Services, size: int, seed: int, hostile: Prepared
) -> AsyncIterator[tuple[Target, Load]]:
    bus, database = RabbitMQBus(servers.rabbitmq.url), await Database.open(servers.postgres.dsn())
    await bus.start()
    dataset = await new_dataset(services.urls[0])
    load = Load(services.urls, bus, dataset, seed)
    try:
        yield Target(servers, services, bus, database, dataset, seed, size, servers.folder, hostile), load
    finally:
        await load.close()
        await database.close()
        await bus.close()


async def _losses(servers: Servers, load: Load, services: Services) -> list[str]:
    """What the honest users lost, read from the database, the files and the broker at the end."""
    submitted = [
        Submitted(item.task_id, item.acknowledged, frozenset(item.ends), item.iterations or 1)
        for item in load.submissions
    ]
    surprises = [*load.surprises, *services.surprises]
    evidence = await collect_evidence(
        servers.postgres.dsn(), servers.rabbitmq.url, servers.bucket, submitted, surprises
    )
    return [str(violation) for violation in check(evidence) if violation.kind in LOSSES] + surprises
