"""PostgreSQL: a pool of connections with patience, one kind of error for "away", and JSON as Python values."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import orjson
from tenacity import stop_after_attempt, stop_after_delay

from contracts.errors import TreadleError
from infra.retry import retry_policy

Row = Mapping[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

CONNECTIONS = 10
OPEN_FOR = 30.0
"""Seconds for which a database that does not answer is tried again at start."""
COMMAND_TIMEOUT = 30.0
CONNECT_TIMEOUT = 10.0
DEADLOCK_ATTEMPTS = 5
PLANNING = {"jit": "off", "enable_seqscan": "off", "enable_mergejoin": "off"}
"""Statements here take milliseconds; compiling one that looks expensive to the planner takes more. They look their
rows up by index: a plan made while a table was small would read all of it, for as long as the plan lasts."""
KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""For a session that holds a lock: the server notices within half a minute that its owner's machine is gone."""

AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What says that the database, or its primary, is not there or is shutting down."""
REFUSED = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
"""What says that it is there and will not have us: waiting does not help."""
ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class DatabaseUnavailable(TreadleError):
    """The database cannot be reached or has just gone; what was asked may have happened or not."""


class Session:
    """One connection, for statements that belong together or for a lock that a session holds."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401  # asyncpg's connection, or a pool's proxy for one
        self._connection = connection

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """The rows of one statement. Raises DatabaseUnavailable."""
        rows: Sequence[Row] = await self._answer(self._connection.fetch(sql, *map(_storable, arguments)))
        return rows

    async def script(self, sql: str) -> None:
        """Several statements at once, without arguments. Raises DatabaseUnavailable."""
        await self._answer(self._connection.execute(sql))

    async def close(self) -> None:
        """Disconnect; whatever the session held is let go."""
        try:
            await self._connection.close(timeout=CONNECT_TIMEOUT)
        except AWAY:
            self._connection.terminate()

    async def _answer(self, asked: Awaitable[Any]) -> Any:  # noqa: ANN401  # asyncpg publishes no types
        """What was asked; asyncpg says InterfaceError for a closed connection, and for our own mistakes too."""
        try:
            return await asked
        except asyncpg.InterfaceError as error:
            if not self._connection.is_closed():
                raise
            raise DatabaseUnavailable(str(error)) from error
        except AWAY as error:
            raise DatabaseUnavailable(_reason(error)) from error


class Database:
    """A pool upon one database."""

    def __init__(self, dsn: str, pool: asyncpg.Pool) -> None:
        self._dsn = dsn
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str, *, connections: int = CONNECTIONS, patience: float = OPEN_FOR) -> Database:
        """Connect, trying for `patience` seconds. Raises DatabaseUnavailable with the address and the reason."""
        pool = await _pool(dsn, connections)
        try:
            await retry_policy(AWAY, longest=2.0, stop=stop_after_delay(patience))(_reach, pool)
        except (*AWAY, *REFUSED) as error:
            pool.terminate()
            raise DatabaseUnavailable(f"no database at {_address(dsn)}: {_reason(error)}") from error
        return cls(dsn, pool)

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """The rows of one statement, which is one transaction; a deadlock is tried again.

        Raises DatabaseUnavailable.
        """
        try:
            return await self._fetch(sql, *arguments)
        except asyncpg.DeadlockDetectedError:
            return await again_after_deadlock(self._fetch, sql, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Several statements as one transaction. Raises DatabaseUnavailable."""
        async with self._connection() as connection, connection.transaction():
            yield Session(connection)

    async def session(self) -> Session:
        """A connection of its own, outside the pool. Raises DatabaseUnavailable."""
        try:
            return Session(
                await asyncpg.connect(
                    self._dsn, timeout=CONNECT_TIMEOUT, command_timeout=COMMAND_TIMEOUT, server_settings=KEEPALIVE
                )
            )
        except (*AWAY, *REFUSED) as error:
            raise DatabaseUnavailable(f"no database at {_address(self._dsn)}: {_reason(error)}") from error

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
            raise DatabaseUnavailable("the connections are closed")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):  # the pool's own makes a task for each statement
                connection = await self._pool.acquire()
            try:
                yield connection
            finally:
                await self._pool.release(connection, timeout=CONNECT_TIMEOUT)
        except (*AWAY, *REFUSED) as error:
            raise DatabaseUnavailable(_reason(error)) from error


async def again_after_deadlock(work: Callable[P, Awaitable[T]], *given: P.args, **named: P.kwargs) -> T:
    """The answer of `work`, done again a few times where the database broke it off for another's sake.

    Raises DatabaseUnavailable, and what `work` raises.
    """
    retrying = retry_policy(asyncpg.DeadlockDetectedError, longest=0.05, stop=stop_after_attempt(DEADLOCK_ATTEMPTS))
    try:
        return await retrying(work, *given, **named)
    except asyncpg.DeadlockDetectedError as error:
        raise DatabaseUnavailable(_reason(error)) from error


async def _pool(dsn: str, connections: int) -> asyncpg.Pool:
    """A pool that connects when it is asked: one that keeps a floor logs a traceback for each try in an outage."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=connections,
        timeout=CONNECT_TIMEOUT,
        command_timeout=COMMAND_TIMEOUT,
        server_settings=PLANNING,
        init=_read_json,
        reset=_keep,
    )


async def _reach(pool: asyncpg.Pool) -> None:
    async with pool.acquire():
        pass


async def _read_json(connection: asyncpg.Connection) -> None:
    """Give and take jsonb as Python values."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_json, decoder=orjson.loads, format="text")


async def _keep(connection: asyncpg.Connection) -> None:
    """Spare the round trip that resets a returned connection: no statement here changes a session's state."""


def _storable(argument: object) -> object:
    """PostgreSQL keeps no NUL character: it becomes the replacement character."""
    if isinstance(argument, list):
        return [_storable(one) for one in argument]
    return argument.replace("\0", "\ufffd") if isinstance(argument, str) else argument


def _to_json(value: object) -> str:
    text = orjson.dumps(value, default=_id_as_text).decode()
    return ESCAPED_NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text


def _id_as_text(value: object) -> str:
    """Ids that asyncpg has read are of a UUID class of its own, which orjson does not know."""
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"expected what JSON can hold, got {type(value).__name__}")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _address(dsn: str) -> str:
    """The address without the password."""
    parts = urlsplit(dsn)
    return f"{parts.hostname}:{parts.port or 5432}{parts.path}"
