"""Fixtures: servers, each started once per session if a test uses it, and empty queues and databases for each test."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
import structlog
from pydantic import SecretStr

from infra.settings import Settings
from tests import servers


@pytest.fixture(scope="session", autouse=True)
def _plain_tracebacks() -> None:
    """Make structlog print tracebacks as Python does, because its default format is slow."""
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture(autouse=True)
def _restore_process() -> Iterator[None]:
    """Undo what a command has configured in this process: its logs and its umask."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    os.umask(umask := os.umask(0))
    yield
    os.umask(umask)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configured)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[servers.Broker]:
    """The RabbitMQ of this session; most tests use `bus_url`."""
    async with servers.rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[str]:
    """The address of this session's PostgreSQL; most tests use `database_url`.

    Its folder is not below pytest's base folder: if the tests run as root, the server runs as another user, and the
    pytest of another session closes the base folder to other users.
    """
    with TemporaryDirectory(prefix="treadle-test-postgres-") as folder:
        async with servers.postgres(Path(folder)) as dsn:
            yield dsn


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[servers.ObjectServer]:
    """The S3 server of this session; most tests use `s3_settings`."""
    async with servers.s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def moto(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[servers.ObjectServer]:
    """A stricter S3 server, for the tests of the S3 protocol itself."""
    async with servers.moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest_asyncio.fixture
async def bus_url(rabbitmq: servers.Broker) -> str:
    """The address of a RabbitMQ whose queues are empty and have no consumers."""
    await servers.purge(rabbitmq.url)
    return rabbitmq.url


@pytest_asyncio.fixture
async def database_url(postgres: str) -> AsyncIterator[str]:
    """The address of an empty database."""
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"CREATE DATABASE {name}")
    yield postgres.rpartition("/")[0] + f"/{name}"
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
def s3_settings(s3: servers.ObjectServer) -> dict[str, object]:
    """The S3 fields of Settings, with a bucket that does not exist yet."""
    return s3.settings()


@pytest.fixture
def settings(bus_url: str, database_url: str, s3_settings: dict[str, object], tmp_path: Path) -> Settings:
    """Settings of a service that uses empty servers of all three kinds."""
    return Settings(
        bus_url=SecretStr(bus_url), database_url=SecretStr(database_url), work_dir=tmp_path / "work", **s3_settings
    )
