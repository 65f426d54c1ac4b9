"""The interface of all contestants: Treadle and its peers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import asyncpg

from benchmarks.control.processes import Processes
from benchmarks.control.servers import Servers
from benchmarks.control.waiting import until

PHASES = ("optimize", "train", "evaluate")
BROKER, DATABASE = "BENCH_BROKER", "BENCH_DATABASE"
"""Environment variables with the addresses of the servers, for a worker process."""


@dataclass(frozen=True)
class Promises:
    """What a contestant guarantees, as short texts for the report."""

    outbox: str
    """Whether state and messages stay consistent after a crash."""
    inbox: str
    """Whether a message that is delivered twice takes effect once."""
    fence: str
    """Whether a worker that has lost its work is prevented from writing."""
    history: str
    redelivery: str
    """When the work of a dead worker is delivered again."""


class Contestant(ABC):
    """Runs three phases for each task in separate worker processes, with the state in PostgreSQL."""

    name: ClassVar[str]
    promises: ClassVar[Promises]
    module: ClassVar[str]
    processes: ClassVar[tuple[str, ...]] = PHASES
    """The argument of `python -m module`, for each process."""
    ended_sql: ClassVar[str]
    """Selects the number of ended tasks."""
    ended_one_sql: ClassVar[str]
    """Selects whether the task $1 has ended."""

    def __init__(self, broker: str, dsn: str, database: asyncpg.Connection, running: Processes) -> None:
        self.broker = broker
        self.dsn = dsn
        self.database = database
        self.running = running

    @classmethod
    @asynccontextmanager
    async def started(cls, servers: Servers, folder: Path) -> AsyncIterator[Self]:
        """A contestant on an empty database, whose workers have run the warm-up tasks."""
        dsn = await servers.fresh_database(f"bench_{cls.name}")
        database = await asyncpg.connect(dsn)
        with Processes(folder / cls.name) as running:
            self = cls(servers.broker, dsn, database, running)
            await self.open()
            try:
                for process in cls.processes:
                    environ = {BROKER: servers.broker, DATABASE: dsn}
                    running.python(process, ["-m", cls.module, process], environ)
                await self.submit_all(WARM_UP)
                await self.until_ended(WARM_UP)
                yield self
            finally:
                await self.close()
                await database.close()

    @abstractmethod
    async def open(self) -> None:
        """Create the schema and the client."""

    @abstractmethod
    async def close(self) -> None:
        """Close the client."""

    @abstractmethod
    async def submit(self) -> str:
        """Submit one task, which is durable when this returns; returns its id."""

    @abstractmethod
    async def submit_all(self, count: int) -> None:
        """Submit tasks in the quickest durable way that the library offers."""

    async def ended(self) -> int:
        """The number of ended tasks, by the state in the database."""
        count: int = await self.database.fetchval(self.ended_sql)
        return count

    async def until_ended(self, count: int) -> None:
        """Wait until `count` tasks have ended."""

        async def all_ended() -> bool:
            self.running.check()
            return await self.ended() >= count

        await until(all_ended, f"{count} ended tasks of {self.name}")

    async def has_ended(self, task: str) -> bool:
        """Whether this task has ended."""
        return bool(await self.database.fetchval(self.ended_one_sql, task))


WARM_UP = 20
"""The number of tasks before a measurement."""
