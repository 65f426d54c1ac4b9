"""PostgreSQL: a connection pool, one error for an unavailable database, and jsonb as Python values."""

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

from contracts.errors import PartUnavailable
from infra.retry import retry_policy

Row = Mapping[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

POOL_SIZE = 10
OPEN_TIMEOUT = 30.0
"""Seconds for which `Database.open` retries a database that is unavailable."""
COMMAND_TIMEOUT = 30.0
CONNECT_TIMEOUT = 10.0
RELEASE_TIMEOUT = 2.0
"""Seconds for the cleanup of a connection whose statement was cancelled; it is closed then."""
DEADLOCK_ATTEMPTS = 5
PLANNER_SETTINGS = {"jit": "off", "enable_seqscan": "off", "enable_mergejoin": "off"}
"""Statements here are short, so compiling them (`jit`) costs more than it saves. They find their rows by index: a plan
that was made while a table was small would read the whole table for as long as the plan is cached."""
KEEPALIVE_SETTINGS = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""For a session that holds a lock: the server detects within half a minute that the client's machine is gone."""

UNAVAILABLE_ERRORS = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""Raised if the database or its primary is unreachable or shutting down."""
REFUSED_ERRORS = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
"""Raised if the database does not exist or refuses the login: retrying does not help."""
ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class DatabaseUnavailable(PartUnavailable):
    """The database is unreachable or the connection was lost; the statement may or may not have been executed."""


class Session:
    """One connection, for statements of one transaction or for a session-level lock."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401  # asyncpg's connection, or a pool's proxy for one
        self._connection = connection

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """The rows of one statement. Raises DatabaseUnavailable."""
        rows: Sequence[Row] = await self._execute(self._connection.fetch(sql, *map(_storable, arguments)))
        return rows

    async def script(self, sql: str) -> None:
        """Execute several statements without arguments. Raises DatabaseUnavailable."""
        await self._execute(self._connection.execute(sql))

    async def close(self) -> None:
        """Disconnect, which releases the locks of the session."""
        try:
            await self._connection.close(timeout=CONNECT_TIMEOUT)
        except UNAVAILABLE_ERRORS:
            self._connection.terminate()

    async def _execute(self, call: Awaitable[Any]) -> Any:  # noqa: ANN401  # asyncpg publishes no types
        """The result of `call`. asyncpg raises InterfaceError for a closed connection and for programming errors."""
        try:
            return await call
        except asyncpg.InterfaceError as error:
            if not self._connection.is_closed():
                raise
            raise DatabaseUnavailable(str(error)) from error
        except UNAVAILABLE_ERRORS as error:
            raise DatabaseUnavailable(_reason(error)) from error


class Database:
    """A connection pool for one database."""

    def __init__(self, dsn: str, pool: asyncpg.Pool) -> None:
        self._dsn = dsn
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str, *, connections: int = POOL_SIZE, timeout: float = OPEN_TIMEOUT) -> Database:
        """Connect, with retries for `timeout` seconds. Raises DatabaseUnavailable with the address and the reason."""
        pool = await _pool(dsn, connections)
        try:
            await retry_policy(UNAVAILABLE_ERRORS, max_pause=2.0, stop=stop_after_delay(timeout))(_connect_once, pool)
        except (*UNAVAILABLE_ERRORS, *REFUSED_ERRORS) as error:
            pool.terminate()
            raise DatabaseUnavailable(_no_login(dsn, error)) from error
        return cls(dsn, pool)

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        """The rows of one statement, which is one transaction; it is retried after a deadlock.

        Raises DatabaseUnavailable.
        """
        try:
            return await self._fetch(sql, *arguments)
        except asyncpg.DeadlockDetectedError:
            return await retry_after_deadlock(self._fetch, sql, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """A session whose statements are one transaction. Raises DatabaseUnavailable."""
        async with self._connection() as connection, connection.transaction():
            yield Session(connection)

    async def session(self) -> Session:
        """A new connection outside the pool. Raises DatabaseUnavailable."""
        try:
            return Session(
                await asyncpg.connect(
                    self._dsn,
                    timeout=CONNECT_TIMEOUT,
                    command_timeout=COMMAND_TIMEOUT,
                    server_settings=KEEPALIVE_SETTINGS,
                )
            )
        except (*UNAVAILABLE_ERRORS, *REFUSED_ERRORS) as error:
            raise DatabaseUnavailable(_no_login(self._dsn, error)) from error

    async def close(self) -> None:
        """Close every connection; those in use are waited for, then terminated."""
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
            raise DatabaseUnavailable("the connection pool is closed")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):  # the pool's own timeout creates a task for each statement
                connection = await self._pool.acquire()
            try:
                yield connection
            finally:
                await self._pool.release(connection, timeout=RELEASE_TIMEOUT)
        except (*UNAVAILABLE_ERRORS, *REFUSED_ERRORS) as error:
            raise DatabaseUnavailable(_reason(error)) from error


async def retry_after_deadlock(work: Callable[P, Awaitable[T]], *given: P.args, **named: P.kwargs) -> T:
    """The result of `work`, called up to DEADLOCK_ATTEMPTS times while the database aborts it because of a deadlock.

    Raises DatabaseUnavailable if every call ends in a deadlock, and what `work` raises.
    """
    retrying = retry_policy(asyncpg.DeadlockDetectedError, max_pause=0.05, stop=stop_after_attempt(DEADLOCK_ATTEMPTS))
    try:
        return await retrying(work, *given, **named)
    except asyncpg.DeadlockDetectedError as error:
        raise DatabaseUnavailable(_reason(error)) from error


async def _pool(dsn: str, connections: int) -> asyncpg.Pool:
    """A pool that connects on demand: with a minimum size, asyncpg logs a traceback for each reconnect in an outage."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=connections,
        timeout=CONNECT_TIMEOUT,
        command_timeout=COMMAND_TIMEOUT,
        server_settings=PLANNER_SETTINGS,
        init=_set_json_codec,
        reset=_skip_reset,
    )


async def _connect_once(pool: asyncpg.Pool) -> None:
    async with pool.acquire():
        pass


async def _set_json_codec(connection: asyncpg.Connection) -> None:
    """Read and write jsonb as Python values."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_json, decoder=orjson.loads, format="text")


async def _skip_reset(connection: asyncpg.Connection) -> None:
    """Save the round trip that resets a returned connection: no statement here changes the state of a session."""


def _storable(argument: object) -> object:
    """The argument with NUL, which PostgreSQL cannot store, replaced by U+FFFD."""
    if isinstance(argument, list):
        return [_storable(one) for one in argument]
    return argument.replace("\0", "\ufffd") if isinstance(argument, str) else argument


def _to_json(value: object) -> str:
    text = orjson.dumps(value, default=_id_as_text).decode()
    return ESCAPED_NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text


def _id_as_text(value: object) -> str:
    """A UUID as text: asyncpg returns its own subclass of UUID, which orjson does not support."""
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"expected a value that JSON can hold, got {type(value).__name__}")


def _reason(error: Exception) -> str:
    return str(error) or ("it did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _no_login(dsn: str, error: Exception) -> str:
    """Why the database cannot be used, and the setting to correct."""
    if isinstance(error, REFUSED_ERRORS):
        return f"the database at {_address(dsn)} refuses the login: {_reason(error)}; check TREADLE_DATABASE_URL"
    return f"no database at {_address(dsn)}: {_reason(error)}; check TREADLE_DATABASE_URL, and whether the server runs"


def _address(dsn: str) -> str:
    """Host, port and database, without the password."""
    parts = urlsplit(dsn)
    return f"{parts.hostname}:{parts.port or 5432}{parts.path}"
