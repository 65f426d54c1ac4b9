"""What every contestant can do, whatever it is made of."""

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
"""The variables by which a worker process learns where the servers are."""


@dataclass(frozen=True)
class Promises:
    """What a contestant guarantees, in a word or two each."""

    outbox: str
    """Whether state and message can diverge."""
    inbox: str
    """Whether a message that comes twice is done once."""
    fence: str
    """Whether a worker that was given up can still write."""
    history: str
    redelivery: str
    """What happens to the work of a worker that died."""


class Contestant(ABC):
    """Three phases for each task, in separate worker processes, with the state in PostgreSQL."""

    name: ClassVar[str]
    promises: ClassVar[Promises]
    module: ClassVar[str]
    processes: ClassVar[tuple[str, ...]] = PHASES
    """Arguments of `python -m module`, one process each."""
    ended_sql: ClassVar[str]
    """How many tasks have ended."""
    ended_one_sql: ClassVar[str]
    """Whether the task $1 has."""

    def __init__(self, broker: str, dsn: str, database: asyncpg.Connection, running: Processes) -> None:
        self.broker = broker
        self.dsn = dsn
        self.database = database
        self.running = running

    @classmethod
    @asynccontextmanager
    async def started(cls, servers: Servers, folder: Path) -> AsyncIterator[Self]:
        """On an empty database, with its workers up and warm."""
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
        """Make the schema and the client."""

    @abstractmethod
    async def close(self) -> None:
        """Let the client go."""

    @abstractmethod
    async def submit(self) -> str:
        """One task, durable when this returns; its id."""

    @abstractmethod
    async def submit_all(self, count: int) -> None:
        """Tasks in the quickest durable way that the library has."""

    async def ended(self) -> int:
        """How many tasks have ended, by the state in the database."""
        found: int = await self.database.fetchval(self.ended_sql)
        return found

    async def until_ended(self, count: int) -> None:
        """Wait until so many have."""

        async def there() -> bool:
            self.running.check()
            return await self.ended() >= count

        await until(there, f"{count} tasks of {self.name}")

    async def has_ended(self, task: str) -> bool:
        """Whether this task has."""
        return bool(await self.database.fetchval(self.ended_one_sql, task))


WARM_UP = 20
