"""PostgreSQL: a pool of connections with patience, one kind of error for "away", and JSON as Python values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import orjson
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_exponential

from contracts.errors import TreadleError

Row = Mapping[str, Any]

CONNECTIONS = 10
OPEN_FOR = 30.0
"""Seconds for which a database that does not answer is tried again at start."""
COMMAND_TIMEOUT = 30.0
CONNECT_TIMEOUT = 10.0
DEADLOCK_ATTEMPTS = 5

AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What says that the database, or its primary, is not there or is shutting down."""


class DatabaseUnavailable(TreadleError):
    """The database cannot be reached or has just gone; what was asked may have happened or not."""


class Session:
    """One connection, for statements that belong together or for a lock that a session holds."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401  # asyncpg's connection, or a pool's proxy for one
        self._connection = connection

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """The rows of one statement."""
        with_errors = _translated(self._connection.fetch(sql, *arguments), self._connection)
        return cast("Sequence[Row]", await with_errors)

    async def script(self, sql: str) -> None:
        """Several statements at once, without arguments."""
        await _translated(self._connection.execute(sql), self._connection)

    @property
    def closed(self) -> bool:
        """Whether the connection is known to be gone."""
        return bool(self._connection.is_closed())

    async def close(self) -> None:
        """Disconnect; whatever the session held is let go."""
        await self._connection.close(timeout=CONNECT_TIMEOUT)


class Database:
    """A pool upon one database."""

    def __init__(self, dsn: str, pool: asyncpg.Pool) -> None:
        self._dsn = dsn
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str, *, connections: int = CONNECTIONS, patience: float = OPEN_FOR) -> Database:
        """Connect, trying for `patience` seconds. Raises DatabaseUnavailable."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(AWAY),
            stop=stop_after_delay(patience),
            wait=wait_exponential(multiplier=0.1, max=2),
            reraise=True,
        )
        try:
            return cls(dsn, await retrying(_pool, dsn, connections))
        except AWAY as error:
            raise DatabaseUnavailable(f"no database at {_address(dsn)}: {error or type(error).__name__}") from error

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """The rows of one statement, which is one transaction; a deadlock is tried again.

        Raises DatabaseUnavailable.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(asyncpg.DeadlockDetectedError),
            stop=stop_after_attempt(DEADLOCK_ATTEMPTS),
            reraise=True,
        )
        return await retrying(self._fetch, sql, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Several statements as one transaction. Raises DatabaseUnavailable."""
        async with self._connection() as connection, connection.transaction():
            yield Session(connection)

    async def session(self) -> Session:
        """A connection of its own, outside the pool. Raises DatabaseUnavailable."""
        try:
            return Session(await asyncpg.connect(self._dsn, timeout=CONNECT_TIMEOUT, command_timeout=COMMAND_TIMEOUT))
        except AWAY as error:
            raise DatabaseUnavailable(f"no database at {_address(self._dsn)}: {error}") from error

    async def close(self) -> None:
        """Close every connection, waiting a moment for those in use."""
        try:
            await asyncio.wait_for(self._pool.close(), CONNECT_TIMEOUT)
        except TimeoutError:
            self._pool.terminate()

    async def _fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        async with self._connection() as connection:
            return await Session(connection).fetch(sql, *arguments)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if self._pool.is_closing():
            raise DatabaseUnavailable("the pool is closed")
        try:
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as connection:
                yield connection
        except AWAY as error:
            raise DatabaseUnavailable(str(error) or type(error).__name__) from error


async def _translated(answer: Any, connection: Any) -> Any:  # noqa: ANN401  # asyncpg publishes no types
    """Await `answer`; asyncpg says InterfaceError both for a closed connection and for our own mistakes."""
    try:
        return await answer
    except asyncpg.InterfaceError as error:
        if connection.is_closed():
            raise DatabaseUnavailable(str(error)) from error
        raise
    except AWAY as error:
        raise DatabaseUnavailable(str(error) or type(error).__name__) from error


async def _pool(dsn: str, connections: int) -> asyncpg.Pool:
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=connections,
        timeout=CONNECT_TIMEOUT,
        command_timeout=COMMAND_TIMEOUT,
        init=_read_json,
        reset=_keep,
    )


async def _read_json(connection: asyncpg.Connection) -> None:
    """Give and take jsonb as Python values."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_json, decoder=orjson.loads, format="text")


async def _keep(connection: asyncpg.Connection) -> None:
    """Spare the round trip that resets a returned connection: no statement here changes a session's state."""


def _to_json(value: object) -> str:
    return orjson.dumps(value).decode()


def _address(dsn: str) -> str:
    """The address without the password."""
    parts = urlsplit(dsn)
    return f"{parts.hostname}:{parts.port or 5432}{parts.path}"
