"""The servers that all contestants share: one RabbitMQ node and one PostgreSQL, with durable settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from infra.settings import Settings
from infra.stack.local import LocalStack

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
MAINTENANCE = "postgres"


@dataclass(frozen=True)
class Servers:
    """A running stack; each measurement has a new database."""

    stack: LocalStack

    @property
    def broker(self) -> str:
        """The address of the broker."""
        assert self.stack.rabbitmq is not None, "started with RabbitMQ"
        return self.stack.rabbitmq.url

    def database(self, name: str) -> str:
        """The address of a database."""
        return self.stack.postgres.dsn(name)

    def settings(self, database: str, **more: Any) -> Settings:  # noqa: ANN401 - the fields of Settings
        """Settings of Treadle for these servers."""
        return self.stack.settings(**{"database_url": self.database(database), "http_port": 0, **more})

    async def fresh_database(self, name: str) -> str:
        """Drop the database `name`, create it again, and return its address."""
        connection = await asyncpg.connect(self.database(MAINTENANCE))
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await connection.execute(f"CREATE DATABASE {name}")
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()
        return self.database(name)

    async def restart_database_at_once(self) -> None:
        """Stop PostgreSQL as a crash would, start it again at the same address, and wait until it answers."""
        await self.stack.postgres.restart_at_once()


@asynccontextmanager
async def serving() -> AsyncIterator[Servers]:
    """Both servers, with pg_stat_statements, in a temporary folder."""
    with TemporaryDirectory(prefix="treadle-bench-") as folder:
        async with LocalStack(Path(folder), broker="rabbitmq") as stack:
            await _count_statements(stack)
            servers = Servers(stack)
            await _check_durable(servers)
            yield servers


async def _count_statements(stack: LocalStack) -> None:
    connection = await asyncpg.connect(stack.postgres.dsn(MAINTENANCE))
    await connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
    await connection.execute("ALTER SYSTEM SET max_connections = 300")
    await connection.close()
    await stack.postgres.stop()
    await stack.postgres.start()


async def _check_durable(servers: Servers) -> None:
    """Check that the settings of PostgreSQL are durable, because other settings would measure something else."""
    connection = await asyncpg.connect(servers.database(MAINTENANCE))
    try:
        for name, expected in DURABLE.items():
            actual = await connection.fetchval(f"SHOW {name}")
            assert actual == expected, f"{name} is {actual}, and must be {expected}"
    finally:
        await connection.close()
