"""The servers of a chaos run, each behind a proxy with a fixed address, because a restart may change their port."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from infra.settings import Settings
from infra.stack.postgres import PostgresNode
from infra.stack.rabbitmq import RabbitMQNode
from infra.stack.s3 import S3Node
from tests.chaos.proxy import Proxy

TTL = 3.0
"""Seconds of a lease; short, so that many leases expire in a run of a few minutes."""


@dataclass(frozen=True)
class Servers:
    """A private broker, database and object store, with their proxies."""

    folder: Path
    rabbitmq: RabbitMQNode
    postgres: PostgresNode
    s3: S3Node
    broker: Proxy
    database: Proxy
    objects: Proxy

    def settings(self) -> Settings:
        """The settings of every service of the run."""
        return Settings(
            bus_url=SecretStr(_through(self.broker, self.rabbitmq.url)),
            database_url=SecretStr(_through(self.database, self.postgres.dsn())),
            s3_endpoint=_through(self.objects, self.s3.endpoint),
            s3_access_key=SecretStr(self.s3.access_key),
            s3_secret_key=SecretStr(self.s3.secret_key),
            short_ttl=TTL,
            train_ttl=TTL,
            reaper_tick=0.5,
            sweep_after=TTL,
            stop_grace=2.0,
            worker_slots=8,
            log_json=True,
            work_dir=self.folder / "work",
        )

    async def crash_database(self) -> None:
        """Stop PostgreSQL as `pg_ctl stop -m immediate` does, and start it again; it then recovers from its log."""
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGQUIT)
        while self.postgres.pid is not None:  # noqa: ASYNC110 - only its parent is notified of its end
            await asyncio.sleep(0.02)
        await self.postgres.start()

    @property
    def bucket(self) -> Path:
        """The folder in which rclone stores the objects as plain files."""
        return self.folder / "s3" / "data" / self.settings().s3_bucket


@asynccontextmanager
async def running_servers(folder: Path) -> AsyncIterator[Servers]:
    """Start the three servers and their proxies, and stop them at the end of the block."""
    rabbitmq, postgres, s3 = RabbitMQNode(folder / "rabbitmq"), PostgresNode(folder / "postgres"), S3Node(folder / "s3")
    async with AsyncExitStack() as stack:
        for node in (postgres, s3, rabbitmq):
            stack.push_async_callback(node.stop)
            await node.start()
        servers = Servers(
            folder,
            rabbitmq,
            postgres,
            s3,
            Proxy(lambda: _port(rabbitmq.url)),
            Proxy(lambda: _port(postgres.dsn())),
            Proxy(lambda: _port(s3.endpoint)),
        )
        for proxy in (servers.broker, servers.database, servers.objects):
            await proxy.start()
            stack.push_async_callback(proxy.stop)
        yield servers


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _through(proxy: Proxy, url: str) -> str:
    """The address `url` with the port of the proxy."""
    return url.replace(f":{_port(url)}", f":{proxy.port}", 1)
